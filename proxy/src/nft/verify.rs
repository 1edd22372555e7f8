//! Whether the kernel holds what was meant. Pure.

use super::{
    decode::{ListedChain, ListedRule},
    encode::hook_number,
    rules::{Chain, PRIORITY, Ruleset},
};

/// How what the kernel lists differs from what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A chain is not there.
    #[error("chain {0} is missing")]
    ChainMissing(&'static str),
    /// A chain hangs elsewhere, or has another type or policy.
    #[error("chain {0} has another type, hook, priority or policy")]
    ChainDiffers(&'static str),
    /// There is a chain too many.
    #[error("it also has a chain {0}")]
    ChainForeign(String),
    /// A chain has too many rules or too few.
    #[error("chain {chain} has {listed} rules instead of {written}")]
    RuleCount {
        /// The chain's name.
        chain: &'static str,
        /// How many rules the kernel lists.
        listed: usize,
        /// How many rules were written.
        written: usize,
    },
    /// A rule does something else.
    #[error("chain {chain} has another rule in the place of `{written}`")]
    RuleDiffers {
        /// The chain's name.
        chain: &'static str,
        /// The rule that was written, in nft's syntax.
        written: String,
    },
    /// The table is still there after its removal.
    #[error("it is still there after its removal")]
    NotRemoved,
}

/// Compares everything that the kernel lists for our table with the ruleset.
pub(super) fn same(
    written: &Ruleset,
    chains: &[ListedChain],
    rules: &[ListedRule],
) -> Result<(), Difference> {
    for chain in &written.chains {
        same_chain(chain, chains, rules)?;
    }
    let foreign = chains.iter().find(|listed| {
        written
            .chains
            .iter()
            .all(|chain| chain.hook.chain() != listed.name)
    });
    match foreign {
        Some(chain) => Err(Difference::ChainForeign(chain.name.clone())),
        None => Ok(()),
    }
}

fn same_chain(
    written: &Chain,
    chains: &[ListedChain],
    rules: &[ListedRule],
) -> Result<(), Difference> {
    let name = written.hook.chain();
    let listed = chains
        .iter()
        .find(|chain| chain.name == name)
        .ok_or(Difference::ChainMissing(name))?;
    let meant = ListedChain {
        name: name.to_owned(),
        kind: "nat".to_owned(),
        hook: Some((hook_number(written.hook), PRIORITY)),
        policy: Some(libc::NF_ACCEPT as u32),
    };
    if *listed != meant {
        return Err(Difference::ChainDiffers(name));
    }
    let rules: Vec<_> = rules.iter().filter(|rule| rule.chain == name).collect();
    if rules.len() != written.rules.len() {
        return Err(Difference::RuleCount {
            chain: name,
            listed: rules.len(),
            written: written.rules.len(),
        });
    }
    for (listed, written) in rules.into_iter().zip(&written.rules) {
        if listed.expressions != written.expressions()
            || listed.comment.as_deref() != Some(written.comment)
        {
            return Err(Difference::RuleDiffers {
                chain: name,
                written: written.to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{expression::Expression, rules::everything};

    fn listed(ruleset: &Ruleset) -> (Vec<ListedChain>, Vec<ListedRule>) {
        let chains = ruleset.chains.iter().map(|chain| ListedChain {
            name: chain.hook.chain().to_owned(),
            kind: "nat".to_owned(),
            hook: Some((hook_number(chain.hook), PRIORITY)),
            policy: Some(1),
        });
        let rules = ruleset.chains.iter().flat_map(|chain| {
            chain.rules.iter().map(|rule| ListedRule {
                chain: chain.hook.chain().to_owned(),
                comment: Some(rule.comment.to_owned()),
                expressions: rule.expressions(),
            })
        });
        (chains.collect(), rules.collect())
    }

    #[test]
    fn what_was_written_is_the_same() {
        let ruleset = everything().ruleset().unwrap();
        let (chains, rules) = listed(&ruleset);
        assert_eq!(same(&ruleset, &chains, &rules), Ok(()));
    }

    #[test]
    fn every_change_by_others_is_noticed() {
        let ruleset = everything().ruleset().unwrap();
        let change = |change: &dyn Fn(&mut Vec<ListedChain>, &mut Vec<ListedRule>)| {
            let (mut chains, mut rules) = listed(&ruleset);
            change(&mut chains, &mut rules);
            same(&ruleset, &chains, &rules).unwrap_err()
        };
        assert_eq!(
            change(&|chains, _| drop(chains.pop())),
            Difference::ChainMissing("prerouting")
        );
        assert_eq!(
            change(&|chains, _| chains[0].policy = Some(0)),
            Difference::ChainDiffers("output")
        );
        assert_eq!(
            change(&|chains, _| {
                let mut chain = chains[0].clone();
                chain.name = "input".to_owned();
                chains.push(chain);
            }),
            Difference::ChainForeign("input".to_owned())
        );
        assert_eq!(
            change(&|_, rules| drop(rules.pop())),
            Difference::RuleCount {
                chain: "prerouting",
                listed: 6,
                written: 7
            }
        );
        let differs = Difference::RuleDiffers {
            chain: "output",
            written: "meta skuid 1500 return comment \"opened by the proxy\"".to_owned(),
        };
        assert_eq!(change(&|_, rules| rules.swap(0, 1)), differs);
        assert_eq!(change(&|_, rules| rules[0].comment = None), differs);
        assert_eq!(
            change(&|_, rules| {
                rules[0].expressions.pop();
                rules[0]
                    .expressions
                    .push(Expression::Foreign("counter".to_owned()));
            }),
            differs
        );
    }
}
