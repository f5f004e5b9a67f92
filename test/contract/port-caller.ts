/**
 * A thread of `port.test.ts` with an agent that sends back what it gets, and a frontend that calls it by a backend's TCP
 * port: neither needs the test's own thread, in which the backend is.
 */
import { once } from "node:events";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { parentPort, workerData } from "node:worker_threads";

import { containerIdHeader } from "../../src/agent-client/address.ts";
import { AgentConnection } from "../../src/agent-client/connection.ts";
import type { BackendReach } from "../../src/frontend/streams/agent-targets.ts";
import { AgentTargets } from "../../src/frontend/streams/agent-targets.ts";

/** Settings of the thread. */
export interface PortCaller {
  /** Unix socket of the agent. */
  readonly agent: string;
  readonly containerId: string;
  /** Set to 1 once all bytes have come back. */
  readonly done: Int32Array<SharedArrayBuffer>;
}

/** Bytes that are sent, and come back. */
const chunk = Buffer.alloc(256 * 1024, "bulk");
const chunks = 128;

const { agent, containerId, done } = workerData as PortCaller;
const server = createServer();
server.on("stream", (stream: ServerHttp2Stream) => {
  stream.respond({ ":status": 200, "content-type": "application/grpc" });
  stream.pipe(stream);
});
server.listen(agent, () => parentPort?.postMessage("listening"));

/** Calls the agent by a backend; then sends, once it has been answered. */
parentPort?.on("message", async (reach: BackendReach) => {
  const target = new AgentTargets(reach).targetOf({
    address: { case: "relay", value: {} },
    containerId,
  } as never);
  const connection = new AgentConnection(target);
  const call = await connection.request(
    "POST",
    "/sockerless.agent.v1.AgentService/Session",
    { "content-type": "application/grpc", te: "trailers", [containerIdHeader]: containerId },
    { carriesInput: true },
  );
  let received = 0;
  call.on("data", ({ length }: Buffer) => {
    received += length;
    if (received === 1) {
      parentPort?.postMessage("answered");
      void send();
    } else if (received === 1 + chunks * chunk.length) {
      Atomics.store(done, 0, 1);
      Atomics.notify(done, 0);
      call.close();
      connection.close();
    }
  });
  call.write("!");
  const send = async (): Promise<void> => {
    for (let sent = 0; sent < chunks; sent++) {
      if (!call.write(chunk)) {
        await once(call, "drain");
      }
    }
  };
});
