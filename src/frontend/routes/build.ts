/** `/build` and what clients of a builder call. There is none, so there is no cache of one either. */
import { invalid } from "../../common/errors.ts";
import { momentOf } from "../../common/moments.ts";
import { type Filters, readFilters } from "../filters.ts";
import { notBuilt } from "../not-built.ts";
import { text } from "../query.ts";
import { replyJson } from "../reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";

const buildElsewhere =
  "build the image elsewhere and bring it with docker load, docker import or docker pull";

const timeFilters = ["until", "unused-for"] as const;
const cacheFilters = ["id", "parent", "type", "description", "inuse", "shared", "private"] as const;
const acceptedFilters: ReadonlySet<string> = new Set([...timeFilters, ...cacheFilters, "label", "label!"]);

/** The routes of a builder. */
export const buildRoutes: readonly Route[] = [
  notBuilt("POST", "/build", "docker build", buildElsewhere),
  {
    method: "POST",
    path: "/build/prune",
    answeredBy: "frontend",
    note: "Without a builder there is no cache: nothing is found.",
    handler: postBuildPrune,
  },
  notBuilt("POST", "/build/cancel", "the cancellation of a build"),
  notBuilt("POST", "/session", "docker build with BuildKit", buildElsewhere),
  notBuilt("POST", "/grpc", "docker build with BuildKit", buildElsewhere),
];

/** `docker system prune` and `docker builder prune`: mistakes are told as dockerd does, then that nothing was there. */
async function postBuildPrune({ query, version, response }: ReplyContext): Promise<void> {
  const filters = readFilters(query);
  const sizes = version.atLeast("1.48")
    ? ["reserved-space", "keep-storage", "max-used-space", "min-free-space"]
    : ["keep-storage"];
  for (const name of sizes) {
    checkBytes(query, name);
  }
  checkFilters(filters);
  replyJson(response, 200, { CachesDeleted: null, SpaceReclaimed: 0 });
}

function checkBytes(query: URLSearchParams, name: string): void {
  const value = text(query, name);
  if (value !== "" && !/^[+-]?\d+$/.test(value)) {
    throw invalid(
      `${name} is in bytes and expects an integer, got ${value}: ` +
        `strconv.Atoi: parsing ${JSON.stringify(value)}: invalid syntax`,
    );
  }
}

/** @throws invalid in the words of moby's builder, which keeps `mutable` and `immutable` to itself */
function checkFilters(filters: Filters): void {
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
  if (moment !== undefined && momentOf(moment, Date.now()) === undefined) {
    const key = timeFilters.find((each) => valuesOf(each).length > 0);
    throw pruneFailed(
      `"${key}" filter expects a duration (e.g., '24h') or a timestamp: ` +
        `failed to parse value as time or duration: ${JSON.stringify(moment)}`,
    );
  }
  if (cacheFilters.some((key) => valuesOf(key).length > 1)) {
    throw pruneFailed("filters expect only one value");
  }
}

function pruneFailed(reason: string): Error {
  return invalid(`failed to prune build cache: ${reason}`);
}
