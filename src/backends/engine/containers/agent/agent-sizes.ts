/** Disk usage of containers as reported by their agents, if the driver does not measure disks. */
import { createAgentClient } from "../../../../agent-client/client.ts";
import { messageOf, systemError } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { AgentAddress } from "../../../../agent-client/address.ts";
import { agentAddressOf, agentOptions } from "./agent-endpoint.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";

/** Milliseconds for which an answer is kept: an agent reads a whole file system for it. */
const keptMs = 30_000;
/** Milliseconds in which an agent has to answer. */
const answerTimeoutMs = 10_000;
/** Time limit of a listing in milliseconds, however many agents are unreachable. */
const listingLimitMs = 10_000;
/** Maximum wait for an agent that did not answer within this time when it was asked last: a hostile one never does. */
const slowLimitMs = 1_000;
const concurrentQueries = 8;
/** Bytes beyond which an agent is not believed: a listing has them, and sums of them, as 64-bit integers. */
const mostWritten = 2n ** 50n;
/** After this time without an answer the next agent is asked as well. */
const turnMs = 250;

interface Told {
  readonly atMs: number;
  /** Bytes; undefined if unknown. */
  readonly written: Promise<bigint | undefined>;
  /** Deadline until which a listing waits for it. */
  readonly dueMs: number;
  /** The last answer: this one's once it is there. */
  bytes: bigint | undefined;
  /** True if the agent has answered late, or not at all yet. */
  isSlow: boolean;
}

/** Recent answers by container; concurrent callers share one. */
const told = new WeakMap<LiveContainer, Told>();

/**
 * Bytes that containers have written, by ID. Containers of unknown size are omitted, such as those whose files are gone
 * or whose agents have not answered in time.
 */
export async function sizesFromAgents(
  context: EngineContext,
  records: readonly ContainerRecord[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, bigint>> {
  const sizes = new Map<string, bigint>();
  const ended = new AbortController();
  const pause = async (ms: number): Promise<void> => {
    await context.clock.sleep(ms, ended.signal).catch(() => undefined); // The listing is complete.
  };
  const answers: Promise<void>[] = [];
  const waiting = records.values();
  const work = async (): Promise<void> => {
    for (const { id } of waiting) {
      signal.throwIfAborted();
      if (ended.signal.aborted) {
        return;
      }
      const { written, dueMs, bytes: before } = sizeOf(context, id);
      if (before !== undefined) {
        sizes.set(id, before);
      }
      const noted = written.then(
        (bytes) => void (bytes === undefined ? sizes.delete(id) : sizes.set(id, bytes)),
      );
      const leftMs = dueMs - context.clock.nowMs();
      const answer = leftMs > 0 ? Promise.race([noted, pause(leftMs)]) : settled(noted);
      answers.push(answer);
      await Promise.race([answer, pause(turnMs)]);
    }
  };
  try {
    const all = Promise.all(Array.from({ length: concurrentQueries }, work)).then(() => Promise.all(answers));
    await Promise.race([all, pause(listingLimitMs)]);
    return new Map(sizes); // A copy: later answers are for the next listing.
  } finally {
    ended.abort();
  }
}

/** Yields only to promises that are already settled. */
async function settled(work: Promise<void>): Promise<void> {
  await Promise.race([work, Promise.resolve()]);
}

function sizeOf(context: EngineContext, id: string): Pick<Told, "written" | "dueMs" | "bytes"> {
  const address = agentAddressOf(context, id);
  const nowMs = context.clock.nowMs();
  if (address === undefined) {
    return { written: Promise.resolve(undefined), dueMs: nowMs, bytes: undefined }; // It was removed meanwhile; nothing is cached for it.
  }
  const live = context.live.of(id);
  const known = told.get(live);
  if (known !== undefined && nowMs - known.atMs < keptMs) {
    return known;
  }
  const written = ask(context, id, address).then(
    (bytes) => {
      asked.isSlow = context.clock.nowMs() - nowMs > slowLimitMs;
      asked.bytes = bytes;
      return bytes;
    },
    (error: unknown) => {
      context.logger.debug({ container: id }, `the size of a container is not known: ${messageOf(error)}`);
      asked.bytes = undefined;
      return undefined;
    },
  );
  const limitMs = known?.isSlow === true ? slowLimitMs : answerTimeoutMs;
  const asked: Told = { atMs: nowMs, written, dueMs: nowMs + limitMs, bytes: known?.bytes, isSlow: true };
  told.set(live, asked);
  return asked;
}

async function ask(context: EngineContext, id: string, address: AgentAddress): Promise<bigint | undefined> {
  const { client, close } = createAgentClient(address, agentOptions(context, id));
  try {
    const { writtenBytes } = await client.diskUsage({}, { timeoutMs: answerTimeoutMs });
    if (writtenBytes > mostWritten) {
      throw systemError(`its agent says that it has written ${writtenBytes} bytes`);
    }
    return writtenBytes;
  } finally {
    close();
  }
}
