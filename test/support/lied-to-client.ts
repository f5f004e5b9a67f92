/**
 * A client of an agent in a process of its own, so that what lies cost it is not the liar's. Its arguments are the port
 * and the files of its certificate; for each message it makes one call, and answers with what became of it. The message
 * is the number of bytes of the call's window, or 0: a large one.
 */
import { readFileSync } from "node:fs";

import { AgentStream, type Outcome, type StreamFailure } from "../../src/agent-client/agent-stream.ts";
import { AgentConnection } from "../../src/agent-client/connection.ts";
import { encodeOpenExec, sessionStream } from "../../src/agent-client/session.ts";
import { messageOf } from "../../src/common/errors.ts";

/** The end of a call. */
export interface Ended {
  readonly told: string;
  /** Bytes by which the most memory that the process ever had has grown. */
  readonly grown: number;
}

const [port, ca, cert, key] = process.argv.slice(2).map(String);
const authority = readFileSync(String(ca), "utf8");
const credentials = {
  certificateChain: readFileSync(String(cert), "utf8"),
  key: readFileSync(String(key), "utf8"),
};

async function call(window: number): Promise<string> {
  const address = { kind: "relay", host: "127.0.0.1", port: Number(port), authority } as const;
  const connection = new AgentConnection({ address, credentials }, window === 0 ? {} : { window });
  try {
    const over = Promise.withResolvers<Outcome | StreamFailure>();
    await AgentStream.open(
      connection,
      sessionStream,
      { containerId: undefined, first: encodeOpenExec({ execId: "e" }), carriesInput: false },
      {
        opened: () => {},
        outputEnded: () => {},
        data: () => {},
        ended: over.resolve,
        failed: over.resolve,
      },
    );
    return JSON.stringify(await over.promise);
  } catch (error) {
    return messageOf(error);
  } finally {
    connection.close();
  }
}

const mostMemory = (): number => process.resourceUsage().maxRSS * 1024;

process.on("message", (window: number) => {
  const before = mostMemory();
  void call(window).then((told) => process.send?.({ told, grown: mostMemory() - before } satisfies Ended));
});
