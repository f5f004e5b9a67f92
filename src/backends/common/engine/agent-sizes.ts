/** How much containers have written, as their agents tell it where no driver measures disks. */
import { createAgentClient } from "../../../agent-client/client.ts";
import { messageOf } from "../../../common/errors.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { AgentAddress } from "../driver.ts";
import { agentAddressOf, agentOptions } from "./agent-endpoint.ts";
import type { EngineContext } from "./context.ts";
import type { LiveContainer } from "./live.ts";

/** An agent reads a whole file system to answer. */
const keptMs = 30_000;
const answerTimeoutMs = 10_000;
const askedAtOnce = 8;

interface Told {
  readonly atMs: number;
  /** Bytes; undefined: nobody can tell. */
  readonly written: Promise<bigint | undefined>;
}

/** What was told of late; callers at the same time share an answer. */
const told = new WeakMap<LiveContainer, Told>();

/** Bytes that containers have written, by ID; without those of which nobody knows: whose files are gone, above all. */
export async function sizesFromAgents(
  context: EngineContext,
  records: readonly ContainerRecord[],
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, bigint>> {
  const sizes = new Map<string, bigint>();
  const waiting = records.values();
  const work = async (): Promise<void> => {
    for (const { id } of waiting) {
      signal?.throwIfAborted();
      const written = await sizeOf(context, id);
      if (written !== undefined) {
        sizes.set(id, written);
      }
    }
  };
  await Promise.all(Array.from({ length: askedAtOnce }, work));
  return sizes;
}

function sizeOf(context: EngineContext, id: string): Promise<bigint | undefined> {
  const address = agentAddressOf(context, id);
  if (address === undefined) {
    return Promise.resolve(undefined); // It was removed meanwhile: nothing is to be kept of it.
  }
  const live = context.live.of(id);
  const nowMs = context.clock.nowMs();
  const known = told.get(live);
  if (known !== undefined && nowMs - known.atMs < keptMs) {
    return known.written;
  }
  const written = ask(context, id, address).catch((error: unknown) => {
    context.logger.debug({ container: id }, `the size of a container is not known: ${messageOf(error)}`);
    return undefined;
  });
  told.set(live, { atMs: nowMs, written });
  return written;
}

async function ask(context: EngineContext, id: string, address: AgentAddress): Promise<bigint | undefined> {
  const { client, close } = createAgentClient(address, agentOptions(context, id));
  try {
    return (await client.diskUsage({}, { timeoutMs: answerTimeoutMs })).writtenBytes;
  } finally {
    close();
  }
}
