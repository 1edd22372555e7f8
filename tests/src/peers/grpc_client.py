"""Calls a unary method of an xds:/// target until told to stop.

usage: client.py TARGET METHOD

GRPC_XDS_BOOTSTRAP names the bootstrap file. One call every 20 ms; the request is the number of the call as text,
and the answer, or the status code of a failure, is printed as one line.
"""

import sys
import time

import grpc


def main() -> None:
    target, method = sys.argv[1:3]
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(
            method, request_serializer=None, response_deserializer=None
        )
        number = 0
        while True:
            number += 1
            try:
                answer = call(str(number).encode(), timeout=5, wait_for_ready=True)
                print("answer", answer.decode(), flush=True)
            except grpc.RpcError as error:
                print("error", error.code().name, error.details(), flush=True)
            time.sleep(0.02)


main()
