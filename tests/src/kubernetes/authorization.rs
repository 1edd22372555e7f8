//! Who may do what: roles and their bindings, evaluated as Kubernetes does.

use super::{authentication::User, selector, status::Status};
use serde_json::Value;

/// What somebody asks for.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'a str,
    /// The API group of the resource.
    pub group: &'a str,
    /// The resource, with its subresource: `pods` or `pods/status`.
    pub resource: &'a str,
    /// The namespace, empty for the whole cluster.
    pub namespace: &'a str,
    /// The name, empty for all.
    pub name: &'a str,
}

/// The objects that grant rights.
#[derive(Debug, Default)]
pub struct Grants<'a> {
    /// Every Role.
    pub roles: Vec<&'a Value>,
    /// Every ClusterRole.
    pub cluster_roles: Vec<&'a Value>,
    /// Every RoleBinding.
    pub bindings: Vec<&'a Value>,
    /// Every ClusterRoleBinding.
    pub cluster_bindings: Vec<&'a Value>,
}

impl Grants<'_> {
    /// Refuses what nobody granted, with the words of Kubernetes.
    pub fn check(&self, user: &User, attributes: Attributes<'_>) -> Result<(), Status> {
        if self.allow(user, attributes) {
            Ok(())
        } else {
            Err(forbidden(user, attributes))
        }
    }

    /// Whether somebody may do something.
    pub fn allow(&self, user: &User, attributes: Attributes<'_>) -> bool {
        if user.is_admin() {
            return true;
        }
        let of_cluster = self.cluster_bindings.iter();
        let in_namespace = self.bindings.iter().filter(|binding| {
            !attributes.namespace.is_empty()
                && binding["metadata"]["namespace"] == attributes.namespace
        });
        of_cluster
            .chain(in_namespace)
            .filter(|binding| names(binding, user))
            .filter_map(|binding| self.role(binding))
            .any(|role| self.rules(role).iter().any(|rule| covers(rule, attributes)))
    }

    fn role(&self, binding: &Value) -> Option<&Value> {
        let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
        let is_named = |role: &&&Value| role["metadata"]["name"] == *name;
        let role = if kind == "ClusterRole" {
            self.cluster_roles.iter().find(is_named)
        } else {
            let namespace = &binding["metadata"]["namespace"];
            let mut roles = self.roles.iter();
            roles.find(|role| role["metadata"]["namespace"] == *namespace && is_named(role))
        };
        role.copied()
    }

    /// The rules of a role, those of the roles that it aggregates among them.
    fn rules<'a>(&'a self, role: &'a Value) -> Vec<&'a Value> {
        let mut rules: Vec<&Value> = role["rules"].as_array().into_iter().flatten().collect();
        let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
        for selector in selectors.into_iter().flatten() {
            let Ok(labels) = selector::Labels::from_object(selector) else {
                continue;
            };
            let aggregated = self
                .cluster_roles
                .iter()
                .filter(|role| labels.matches(role));
            rules
                .extend(aggregated.flat_map(|role| role["rules"].as_array().into_iter().flatten()));
        }
        rules
    }
}

/// Whether a binding is about somebody.
fn names(binding: &Value, user: &User) -> bool {
    let subjects = binding["subjects"].as_array().into_iter().flatten();
    subjects
        .into_iter()
        .any(|subject| match subject["kind"].as_str() {
            Some("User") => subject["name"] == user.name,
            Some("Group") => user.groups.iter().any(|group| subject["name"] == *group),
            Some("ServiceAccount") => {
                let namespace = subject["namespace"].as_str().unwrap_or_default();
                let name = subject["name"].as_str().unwrap_or_default();
                user.name == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        })
}

fn covers(rule: &Value, attributes: Attributes<'_>) -> bool {
    let has = |field: &str, wanted: &str| {
        let values = rule[field].as_array().into_iter().flatten();
        values
            .filter_map(Value::as_str)
            .any(|value| value == "*" || value == wanted)
    };
    let subresource = attributes.resource.split_once('/');
    let resource = has("resources", attributes.resource)
        || subresource.is_some_and(|(_, sub)| has_plain(rule, &format!("*/{sub}")));
    let names = rule["resourceNames"].as_array();
    let named = names.is_none_or(Vec::is_empty) || has_name(rule, attributes.name);
    has("verbs", attributes.verb) && has("apiGroups", attributes.group) && resource && named
}

fn has_plain(rule: &Value, wanted: &str) -> bool {
    let resources = rule["resources"].as_array().into_iter().flatten();
    resources.into_iter().any(|resource| resource == wanted)
}

/// A rule for names never covers what has none: a list, or a create.
fn has_name(rule: &Value, name: &str) -> bool {
    let mut names = rule["resourceNames"].as_array().into_iter().flatten();
    !name.is_empty() && names.any(|granted| granted == name)
}

fn forbidden(user: &User, asked: Attributes<'_>) -> Status {
    let qualified = |name: &str| match asked.group {
        "" => name.to_owned(),
        group => format!("{name}.{group}"),
    };
    let plural = asked.resource.split('/').next().unwrap_or_default();
    let subject = if asked.name.is_empty() {
        qualified(plural)
    } else {
        format!("{} \"{}\"", qualified(plural), asked.name)
    };
    let scope = if asked.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", asked.namespace)
    };
    Status::forbidden(format!(
        "{subject} is forbidden: User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {scope}",
        user.name, asked.verb, asked.resource, asked.group
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn account() -> User {
        User::service_account("weft-system", "weft")
    }

    fn asks<'a>(
        verb: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Attributes<'a> {
        Attributes {
            verb,
            group: "",
            resource,
            namespace,
            name,
        }
    }

    fn binding(kind: &str, namespace: &str) -> Value {
        json!({
            "metadata": { "namespace": namespace },
            "roleRef": { "kind": kind, "name": "r" },
            "subjects": [{ "kind": "ServiceAccount", "namespace": "weft-system", "name": "weft" }],
        })
    }

    #[test]
    fn a_cluster_role_bound_in_a_namespace_grants_there_only() {
        let role = json!({ "metadata": { "name": "r" }, "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] }] });
        let binding = binding("ClusterRole", "a");
        let grants = Grants {
            cluster_roles: vec![&role],
            bindings: vec![&binding],
            ..Grants::default()
        };
        assert!(grants.allow(&account(), asks("list", "pods", "a", "")));
        assert!(!grants.allow(&account(), asks("list", "pods", "b", "")));
        assert!(!grants.allow(&account(), asks("list", "pods", "", "")));
        assert!(!grants.allow(&account(), asks("get", "pods/status", "a", "x")));
        assert!(!grants.allow(
            &User::service_account("x", "weft"),
            asks("list", "pods", "a", "")
        ));
    }

    #[test]
    fn names_limit_a_rule_to_requests_that_name_one() {
        let role = json!({ "metadata": { "name": "r" }, "rules": [{ "apiGroups": [""], "resources": ["secrets", "*/status"], "resourceNames": ["one"], "verbs": ["*"] }] });
        let binding = binding("ClusterRole", "");
        let grants = Grants {
            cluster_roles: vec![&role],
            cluster_bindings: vec![&binding],
            ..Grants::default()
        };
        assert!(grants.allow(&account(), asks("update", "secrets", "a", "one")));
        assert!(grants.allow(&account(), asks("update", "pods/status", "a", "one")));
        assert!(!grants.allow(&account(), asks("update", "secrets", "a", "two")));
        assert!(!grants.allow(&account(), asks("create", "secrets", "a", "")));
    }

    #[test]
    fn a_refusal_reads_like_that_of_kubernetes() {
        let refused = Grants::default().check(&account(), asks("get", "pods/status", "a", "x"));
        assert_eq!(
            refused.unwrap_err().message,
            "pods \"x\" is forbidden: User \"system:serviceaccount:weft-system:weft\" cannot get resource \"pods/status\" in API group \"\" in the namespace \"a\""
        );
        let refused = Grants::default().check(&account(), asks("list", "nodes", "", ""));
        assert_eq!(
            refused.unwrap_err().message,
            "nodes is forbidden: User \"system:serviceaccount:weft-system:weft\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
        );
    }
}
