/** `/build` and the endpoints of BuildKit's clients, served by the builder if there is one. */
import { atoi } from "../../common/go-values.ts";
import { invalid } from "../../common/errors.ts";
import { momentOf } from "../../common/moments.ts";
import { callBuilder, forwardToBuilder, joinBuilder } from "../builder.ts";
import { type FilterValues, readFilters } from "../filters.ts";
import { refuse } from "../not-built.ts";
import { text } from "../http/query.ts";
import { replyJson } from "../http/reply.ts";
import type { HijackContext, ReplyContext, RequestContext } from "../request-context.ts";
import type { Route } from "../router.ts";

const buildElsewhere =
  "build the image elsewhere and bring it with docker load, docker import or docker pull";

const timeFilters = ["until", "unused-for"] as const;
const cacheFilters = ["id", "parent", "type", "description", "inuse", "shared", "private"] as const;
const acceptedFilters: ReadonlySet<string> = new Set([...timeFilters, ...cacheFilters, "label", "label!"]);

/** The builder's routes. */
export const buildRoutes: readonly Route[] = [
  {
    method: "POST",
    path: "/build",
    note: "By the builder that `serve` starts with the first build.",
    kind: "transfer",
    handler: postBuild,
  },
  {
    method: "POST",
    path: "/build/prune",
    note: "Where nothing was built there is no cache: nothing is found.",
    handler: postBuildPrune,
  },
  { method: "POST", path: "/build/cancel", handler: postBuildCancel },
  {
    method: "POST",
    path: "/session",
    kind: "session",
    hijack: true,
    handler: join("/session"),
  },
  {
    method: "POST",
    path: "/grpc",
    kind: "session",
    hijack: true,
    handler: join("/grpc"),
  },
];

/** Sent in the answer's stream while the first build has to wait. */
const compilingMessage = `${JSON.stringify({
  stream: "sockerless: the builder is compiled, which takes minutes once\n",
})}\r\n`;

async function postBuild(context: ReplyContext): Promise<void> {
  const { request, response } = context;
  const onCompile = (): void => {
    response.writeHead(200, { "Content-Type": "application/json" });
    response.write(compilingMessage);
  };
  const socket = await builderFor(context, "docker build", { instead: buildElsewhere, onCompile });
  const { search } = new URL(request.url ?? "/", "http://builder");
  await forwardToBuilder(context, socket, `/build${search}`);
}

async function postBuildCancel(context: ReplyContext): Promise<void> {
  const socket = await builderFor(context, "the cancellation of a build");
  const { search } = new URL(context.request.url ?? "/", "http://builder");
  await forwardToBuilder(context, socket, `/build/cancel${search}`);
}

function join(path: "/session" | "/grpc"): (context: HijackContext) => Promise<void> {
  return async (context) => {
    const socket = await builderFor(context, "docker build with BuildKit", { instead: buildElsewhere });
    await joinBuilder(context, socket, path);
  };
}

/** The builder's socket. @throws not-implemented, naming the feature, if there is no builder */
async function builderFor(
  context: RequestContext,
  feature: string,
  { instead, onCompile }: { readonly instead?: string; readonly onCompile?: () => void } = {},
): Promise<string> {
  const started = context.services.startBuilder?.({
    onlyIfUsed: false,
    ...(onCompile === undefined ? {} : { onCompile }),
  });
  return (await started) ?? refuse(context, feature, instead);
}

/**
 * `docker system prune` and `docker builder prune`: validates the filters with dockerd's errors, then the builder
 * prunes.
 */
async function postBuildPrune({
  request,
  query,
  version,
  signal,
  services,
  response,
}: ReplyContext): Promise<void> {
  const filters = readFilters(query);
  const sizes = version.atLeast("1.48")
    ? ["reserved-space", "keep-storage", "max-used-space", "min-free-space"]
    : ["keep-storage"];
  for (const name of sizes) {
    checkBytes(query, name);
  }
  const moment = checkFilters(filters);
  const socket = await services.startBuilder?.({ onlyIfUsed: true });
  if (socket === undefined) {
    replyJson(response, 200, { CachesDeleted: null, SpaceReclaimed: 0 });
    return;
  }
  const { searchParams } = new URL(request.url ?? "/", "http://builder");
  if (moment !== undefined) {
    searchParams.set("filters", withMoment(filters, moment));
  }
  const { status, body } = await callBuilder(socket, "POST", `/build/prune?${searchParams}`, signal);
  replyJson(response, status, body);
}

function checkBytes(query: URLSearchParams, name: string): void {
  const value = text(query, name);
  if (value !== "") {
    atoi(value, `${name} is in bytes and expects an integer, got ${value}`);
  }
}

/** The filters with `until` in Unix seconds, as the builder expects it. */
function withMoment(filters: FilterValues, moment: number): string {
  const others = Object.entries(filters)
    .filter(([key]) => !(timeFilters as readonly string[]).includes(key))
    .map(([key, { values }]) => [key, Object.fromEntries(values.map((value) => [value, true]))]);
  return JSON.stringify({ ...Object.fromEntries(others), until: { [String(moment / 1000)]: true } });
}

/**
 * Milliseconds since the epoch: cache that was last used before is pruned; undefined: all of it.
 *
 * @throws invalid in the words of moby's builder, which keeps `mutable` and `immutable` to itself
 */
function checkFilters(filters: FilterValues): number | undefined {
  const valuesOf = (key: string): readonly string[] => filters[key]?.values ?? [];
  for (const key of Object.keys(filters)) {
    if (!acceptedFilters.has(key)) {
      throw pruneFailed(`invalid filter '${key}'`);
    }
  }
  const [moment, ...others] = timeFilters.flatMap(valuesOf);
  if (timeFilters.every((key) => valuesOf(key).length > 0)) {
    throw pruneFailed(`conflicting filters: ${timeFilters.map((key) => JSON.stringify(key)).join(" and ")}`);
  }
  if (others.length > 0) {
    throw pruneFailed("filters expect only one value");
  }
  const momentMs = moment === undefined ? undefined : momentOf(moment, Date.now());
  if (moment !== undefined && momentMs === undefined) {
    const key = timeFilters.find((each) => valuesOf(each).length > 0);
    throw pruneFailed(
      `"${key}" filter expects a duration (e.g., '24h') or a timestamp: ` +
        `failed to parse value as time or duration: ${JSON.stringify(moment)}`,
    );
  }
  if (cacheFilters.some((key) => valuesOf(key).length > 1)) {
    throw pruneFailed("filters expect only one value");
  }
  return momentMs;
}

function pruneFailed(reason: string): Error {
  return invalid(`failed to prune build cache: ${reason}`);
}
