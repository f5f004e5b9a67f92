/** Reads an agent's log as it comes, for callers that need its bytes in this process. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import { ByteBudget } from "../common/byte-budget.ts";
import { SockerlessError } from "../common/errors.ts";
import { onAbort } from "../common/on-abort.ts";
import type { LogsRequestSchema, Stream } from "../gen/sockerless/agent/v1/agent_pb.ts";
import type { AgentTarget } from "./address.ts";
import { AgentStream, type StreamFailure } from "./agent-stream.ts";
import { AgentConnection } from "./connection.ts";
import { encodeLogsRequest, logsStream, recordsStream } from "./logs.ts";

/** Bytes on their way to all readers, apart from the least of each: some do not read on for as long as they like. */
const windows = new ByteBudget(32 * 1024 * 1024);

/** A piece of a log. */
export interface LogPart {
  /** Meaningless for records. */
  readonly stream: Stream;
  readonly data: Uint8Array;
}

/** Yields the agent's log until its end. @throws the signal's reason; the call's error; system if the stream was cut */
export async function* agentLog(
  agent: AgentTarget,
  containerId: string,
  request: MessageInitShape<typeof LogsRequestSchema>,
  signal: AbortSignal,
): AsyncGenerator<LogPart> {
  signal.throwIfAborted();
  // The one copy of a log may be taken here.
  const connection = new AgentConnection({ ...agent, containerId }, { windows, outlivesCuts: true });
  const waiting = new WaitingParts();
  let changed = Promise.withResolvers<void>();
  let isOver = false;
  let failure: StreamFailure | undefined;
  const end = (): void => {
    isOver = true;
    changed.resolve();
  };
  using _leaving = onAbort(signal, () => connection.close());
  try {
    const first = encodeLogsRequest(request);
    const log = await AgentStream.open(
      connection,
      request.records === true ? recordsStream : logsStream,
      { containerId, first, carriesInput: false },
      {
        opened() {},
        data(channel, source, start, end) {
          log.pause();
          waiting.add(channel, source.subarray(start, end));
          changed.resolve();
        },
        outputEnded() {},
        ended: end,
        failed(told) {
          failure = told;
          end();
        },
      },
    );
    while (!isOver) {
      await changed.promise;
      changed = Promise.withResolvers();
      yield* waiting.take();
      log.resume();
    }
    yield* waiting.take();
    if (failure !== undefined) {
      throw new SockerlessError(failure.kind, failure.message);
    }
  } catch (error) {
    signal.throwIfAborted(); // The connection was closed for it.
    throw error;
  } finally {
    connection.close();
  }
}

/** Parts that have come and are not read yet, in few objects: an agent may make one of each byte. */
class WaitingParts {
  #bytes = Buffer.alloc(0);
  #length = 0;
  /** Streams, each followed by the end of its bytes. */
  #runs: number[] = [];

  /** Adds a copy. */
  add(stream: number, data: Uint8Array): void {
    const length = this.#length + data.length;
    if (length > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#bytes.length));
      this.#bytes.copy(grown, 0, 0, this.#length);
      this.#bytes = grown;
    }
    this.#bytes.set(data, this.#length);
    this.#length = length;
    if (this.#runs.at(-2) === stream) {
      this.#runs.pop();
    } else {
      this.#runs.push(stream);
    }
    this.#runs.push(length);
  }

  *take(): Generator<LogPart> {
    const { bytes, runs } = { bytes: this.#bytes, runs: this.#runs };
    this.#bytes = Buffer.alloc(0);
    this.#length = 0;
    this.#runs = [];
    for (let at = 0, begin = 0; at < runs.length; at += 2) {
      const end = runs[at + 1] as number;
      yield { stream: runs[at] as Stream, data: bytes.subarray(begin, end) };
      begin = end;
    }
  }
}
