/** `/containers/{name}/stats`: a container's resource usage. */
import { fromUnknown, ignoring, invalid } from "../../common/errors.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import type { StatsResponse } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { OpenStatsResponse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { statsToJson } from "../convert/stats.ts";
import { flag, flagOr } from "../http/query.ts";
import { replyJson, replyPart } from "../http/reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";

/** Interval of the empty readings of a stopped container. */
const emptyEveryMs = 1_000;

/** The route of resource usage. */
export const statsRoutes: readonly Route[] = [
  { method: "GET", path: "/containers/{name}/stats", kind: "stream", handler: getContainersStats },
];

async function getContainersStats(context: ReplyContext): Promise<void> {
  const { query, version, response } = context;
  const stream = flagOr(query, "stream", true);
  const oneShot = version.atLeast("1.41") && flag(query, "one-shot");
  const place = await openStats(context);
  if (stream && oneShot) {
    throw invalid("cannot have stream=true and one-shot=true");
  }
  if (stream) {
    await streamStats(context, place);
    return;
  }
  let reading: StatsResponse | undefined;
  for await (const each of readingsAt(context, place, { oneShot })) {
    reading = each;
  }
  replyJson(response, 200, statsToJson(place.id, place.name, reading));
}

/** Writes one object per second for as long as the container exists, with zeros while it does not run. */
async function streamStats(context: ReplyContext, first: OpenStatsResponse): Promise<void> {
  const { signal, response } = context;
  response.writeHead(200);
  response.flushHeaders();
  for (let place: OpenStatsResponse | undefined = first; place !== undefined; ) {
    for await (const reading of readingsAt(context, place, { stream: true })) {
      await writeLine(context, place, reading);
    }
    // It does not run or has just ended, and may be started at any time.
    await writeLine(context, place, undefined);
    await context.services.clock.sleep(emptyEveryMs, signal);
    place = await openStatsAgain(context);
  }
  response.end();
}

async function writeLine(
  { signal, response }: ReplyContext,
  { id, name }: OpenStatsResponse,
  reading: StatsResponse | undefined,
): Promise<void> {
  await replyPart(response, `${stringifyJson(statsToJson(id, name, reading))}\n`, signal);
}

/** Yields the readings of a container's agent; ends if the container does not run. */
async function* readingsAt(
  { services, signal }: ReplyContext,
  { endpoint }: OpenStatsResponse,
  request: { readonly stream?: boolean; readonly oneShot?: boolean },
): AsyncGenerator<StatsResponse> {
  if (endpoint === undefined) {
    return;
  }
  const agent = services.agents.clientOf(endpoint);
  try {
    yield* agent.client.stats(request, { signal });
  } catch (error) {
    const { kind } = fromUnknown(error);
    // It ended between the two calls.
    if (signal.aborted || (kind !== "conflict" && kind !== "unavailable")) {
      throw error;
    }
  } finally {
    agent.close();
  }
}

function openStats({ parameters, services, signal }: ReplyContext): Promise<OpenStatsResponse> {
  return services.backend.containers.openStats(
    { container: parameters["name"] ?? "", access: services.agents.access },
    { signal },
  );
}

/** @returns undefined once the container is gone */
async function openStatsAgain(context: ReplyContext): Promise<OpenStatsResponse | undefined> {
  return await openStats(context).catch(ignoring((error) => fromUnknown(error).kind === "not-found"));
}
