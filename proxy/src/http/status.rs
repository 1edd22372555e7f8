//! Statuses of gRPC and HTTP in each other's words.

use http::StatusCode;

/// What an HTTP status means to a gRPC caller (grpc/grpc `doc/http-grpc-status-mapping.md`).
pub fn to_grpc(status: StatusCode) -> u8 {
    const UNKNOWN: u8 = 2;
    const PERMISSION_DENIED: u8 = 7;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// What a gRPC status means to a caller of HTTP (google/rpc `code.proto`).
pub fn to_http(status: u8) -> StatusCode {
    let status = match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    };
    StatusCode::from_u16(status).expect("all of them are three digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_have_a_word_of_their_own_keep_it() {
        for (http, grpc) in [(401, 16), (403, 7), (503, 14)] {
            assert_eq!(to_grpc(StatusCode::from_u16(http).unwrap()), grpc);
            assert_eq!(to_http(grpc).as_u16(), http);
        }
        assert_eq!(to_grpc(StatusCode::IM_A_TEAPOT), 2);
        assert_eq!(to_http(2), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(to_http(99), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
