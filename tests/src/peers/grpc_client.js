// Calls a unary method of an xds:/// target until told to stop.
//
// usage: client.js TARGET METHOD
//
// GRPC_XDS_BOOTSTRAP names the bootstrap file. One call every 20 ms; the request is the number of the call as text,
// and the answer, or the status code of a failure, is printed as one line.

const grpc = require('@grpc/grpc-js');
require('@grpc/grpc-js-xds').register();

const [target, method] = process.argv.slice(2);
const client = new grpc.Client(target, grpc.credentials.createInsecure());
const asIs = (bytes) => bytes;
let number = 0;

function call() {
  number += 1;
  const deadline = Date.now() + 5000;
  const request = Buffer.from(String(number));
  client.makeUnaryRequest(method, asIs, asIs, request, { deadline, waitForReady: true }, (error, answer) => {
    if (error) {
      console.log('error', grpc.status[error.code], error.details);
    } else {
      console.log('answer', answer.toString());
    }
    setTimeout(call, 20);
  });
}

call();
