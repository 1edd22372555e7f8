"""Makes one call of each kind to a gRPC server over HTTP/2 without TLS, and says "done" when all went as they should.

usage: streams.py ADDRESS
"""

import queue
import sys

import grpc


def main() -> None:
    with grpc.insecure_channel(sys.argv[1]) as channel:
        unary = channel.unary_unary("/weft.test.Echo/Call")
        answer = unary(b"one", timeout=10, wait_for_ready=True)
        assert answer == b"server:one", answer

        try:
            unary(b"fail", timeout=10)
            raise AssertionError("a call that fails has succeeded")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INTERNAL, error.code()

        both_ways = channel.stream_stream("/weft.test.Echo/Talk")
        messages: queue.Queue = queue.Queue()
        call = both_ways(iter(messages.get, None), timeout=10)
        for number in range(100):
            messages.put(f"message {number}".encode())
            answer = next(call)
            assert answer == f"server:message {number}".encode(), answer
        messages.put(None)
        assert list(call) == [] and call.code() == grpc.StatusCode.OK, call.code()

        messages = queue.Queue()
        call = both_ways(iter(messages.get, None), timeout=10)
        messages.put(b"last")
        next(call)
        call.cancel()
        messages.put(None)
        # A call after it on the same connection shows that the cancellation has left, and harmed no other call.
        assert unary(b"two", timeout=10) == b"server:two"
        print("done", flush=True)


main()
