/** The body of a client's request, which a container's agent reads from the client's own connection. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";

import { createAgentClient } from "../../agent-client/client.ts";
import { systemError } from "../../common/errors.ts";
import type {
  ArchiveFailure,
  ArchivePutOpenSchema,
  ArchiveTakeResponse,
} from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { AgentEndpoint } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { TakeContext, TakenUpload } from "../request-context.ts";
import { readAgain } from "./hand-over.ts";
import { endOfHanded } from "./handed-on.ts";

/**
 * Lets the agent at an endpoint unpack the body of a request.
 *
 * @param open the call, with the archive's target
 * @returns undefined if the body still has to be read, from its beginning
 * @throws ConnectError if the agent refuses; SockerlessError if it is unknown which process has the client's
 *   connection: our copy is then closed
 */
export async function takeUpload(
  { connection, request, services, headers, logger }: TakeContext,
  endpoint: AgentEndpoint | undefined,
  open: MessageInitShape<typeof ArchivePutOpenSchema>,
): Promise<TakenUpload | undefined> {
  const { handOver } = services;
  if (handOver?.mayTake(connection, endpoint) !== true) {
    return undefined;
  }
  const { address, ...options } = services.agents.targetOf(endpoint);
  const agent = createAgentClient(address, options);
  const answered = Promise.withResolvers<void>();
  const lost = new AbortController();
  const { "content-length": length, expect } = request.headers;
  const isChunked = request.headers["transfer-encoding"] !== undefined;
  const asked = {
    open,
    ...(!isChunked && { length: BigInt(length ?? 0) }),
    expectsContinue: expect !== undefined,
    head: Object.entries(headers)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join(""),
  };
  const requests = async function* () {
    yield asked;
    await answered.promise;
  };
  let isTaken = false;
  try {
    const results = agent.client.archiveTake(requests(), { signal: lost.signal })[Symbol.asyncIterator]();
    const first: ArchiveTakeResponse | undefined = (await results.next()).value;
    if (first?.message.case !== "offer") {
      return undefined;
    }
    const offer = first.message.value;
    const early = await handOver.give(connection, offer).catch((error: unknown) => {
      connection.destroy(); // Only one process may read a body.
      throw error;
    });
    if (early !== undefined) {
      connection.unshift(early);
      return undefined;
    }
    isTaken = true;
    logger.debug("an archive is handed on");
    const told = resultOf(results).then((result) => {
      readAgain(connection); // The agent is done with it, and what follows may take long.
      return result;
    });
    const ended = endOfHanded(logger, "an archive", offer.socket, told).then(sizeOf);
    ended.catch(() => {}); // Handled later, by its user.
    // The agent ends the call once it knows the outcome; if the call is cancelled before, the agent answers the client.
    const writtenBefore = connection.bytesWritten;
    const finish = (): void => {
      if (connection.bytesWritten > writtenBefore) {
        answered.resolve();
      } else {
        lost.abort();
      }
      results.next().then(
        () => agent.close(),
        () => agent.close(),
      );
    };
    connection.once("close", finish);
    return { connection, ended, lose: (reason) => lost.abort(reason) };
  } finally {
    if (!isTaken) {
      answered.resolve();
      agent.close();
    }
  }
}

/** The agent's report about an archive. */
type Result =
  | { readonly totalBytes: number }
  | { readonly refusal: Pick<ArchiveFailure, "code" | "message"> };

async function resultOf(results: AsyncIterator<ArchiveTakeResponse>): Promise<Result> {
  const { message }: Partial<ArchiveTakeResponse> = (await results.next()).value ?? {};
  switch (message?.case) {
    case "end":
      return { totalBytes: Number(message.value.totalBytes) };
    case "failure":
      return { refusal: { code: message.value.code, message: message.value.message } };
    default:
      throw systemError("the agent's call ended before its result");
  }
}

/** @throws ConnectError */
function sizeOf(result: Result): number {
  if ("refusal" in result) {
    throw new ConnectError(result.refusal.message, result.refusal.code);
  }
  return result.totalBytes;
}
