/** The differences from dockerd 20.10 that are meant, in groups; each group has its paragraph in docs/differences.md. */
import type { Call } from "./calls.ts";

/** What of an answer differs. */
export type Aspect = "status" | "contentType" | "headers" | "message" | "shape";

/** A difference as the test finds it; for headers and shapes one of the two sides is empty. */
interface Difference {
  readonly call: Call;
  readonly aspect: Aspect;
  readonly ours: string;
  readonly theirs: string;
}

/** By the heading in docs/differences.md. */
export const groups: Readonly<Record<string, (difference: Difference) => boolean>> = {
  "What cannot be read is the client's error": ({ aspect, ours, theirs }) =>
    aspect === "status" && ours === "400" && theirs === "500",

  "Texts are those of moby 28": ({ aspect, ours }) =>
    aspect === "message" && textsOf28.some((text) => text.test(ours)),

  "Streams and errors say what they are": ({ call, aspect, ours }) =>
    aspect === "contentType"
      ? ours === (call.path.includes("/logs") ? "application/vnd.docker.raw-stream" : "application/json")
      : aspect === "shape" && call.path === "/containers/missing/attach",

  "Every answer says who answers": ({ aspect, ours, theirs }) =>
    aspect === "headers" && theirs === "" && ownHeaders.has(ours),

  "What is not built is refused by name": ({ call, aspect, ours }) =>
    aspect === "status" && ours === "501" && notBuilt.some((path) => call.path.startsWith(path)),

  "A request is checked before its container is looked for": ({ call, aspect, ours, theirs }) =>
    aspect === "status" && call.path.includes("/missing/") && ours === "400" && theirs === "404",

  "Unknown words are refused": ({ call, aspect, ours, theirs }) =>
    aspect === "status" &&
    ours === "400" &&
    (call.path.startsWith("/events?") || call.path.includes("/wait?condition=")
      ? theirs === "200"
      : theirs === "201" && /name=(pid|ipc|uts)mode$/.test(call.path)),

  "`--volumes-from` or a filter names a container that is not there": ({ call, aspect, ours }) =>
    aspect === "status" &&
    (call.path.includes("name=volumesfrom") || /filters=.*(before|since)/.test(call.path)) &&
    ours === "404",

  "Options of another type of mount": ({ call, aspect, ours }) =>
    aspect === "status" && call.path.includes("name=volopts") && ours === "201",

  "Fields that later versions dropped": ({ aspect, ours, theirs }) =>
    aspect === "shape" && ours === "" && dropped.some((field) => field.test(theirs)),

  "Fields that later versions added": ({ aspect, ours, theirs }) =>
    aspect === "shape" && theirs === "" && added.some((field) => field.test(ours)),

  "Empty lists are lists": ({ aspect, ours, theirs }) =>
    aspect === "shape" && emptyLists.some((field) => field.test(ours || theirs)),

  "No paths of layers": ({ aspect, ours, theirs }) =>
    aspect === "shape" && /\.GraphDriver\.Data/.test(ours || theirs),

  "What sockerless is made of": ({ call, aspect, ours, theirs }) =>
    aspect === "shape" &&
    (/^\/(version|info)$/.test(call.path) || /Labels/.test(ours || theirs)) &&
    ownFacts.some((field) => field.test(ours || theirs)),
};

/** Whether a difference is one of those that docs/differences.md gives a reason for. */
export function isIntended(call: Call, aspect: Aspect, ours: string, theirs: string): boolean {
  return Object.values(groups).some((holds) => holds({ call, aspect, ours, theirs }));
}

const ownHeaders: ReadonlySet<string> = new Set([
  "docker-experimental: false",
  "ostype: linux",
  "api-version",
  "builder-version",
]);

const textsOf28: readonly RegExp[] = [
  /^(invalid filter|invalid signal|invalid JSON|invalid resize|invalid restart policy|invalid reference format)/,
  /^container <id> is not running$/,
  /^cannot (kill|remove) container/,
  /^(config cannot be empty|no image was specified|unsupported Content-Type header|range of CPUs is)/,
  /^(logger: no log driver named|failed to create task for container|failed to set up container networking)/,
  /^No such image: /,
  /^archive\/tar: /,
  /^failed to prune build cache: invalid filter/,
];

const notBuilt = ["/images/search", "/build", "/containers/create?name=runtime"];

const dropped: readonly RegExp[] = [/\.KernelMemory(TCP)?:/, /\.Container(Config.*)?:/, /^\.Error: null$/];

const added: readonly RegExp[] = [
  /\.(DNSNames|GwPriority|EnableIPv4|CDISpecDirs):/,
  /\.DefaultAddressPools/,
  /volume\.anonymous: /,
];

const emptyLists: readonly RegExp[] = [
  /\.HostConfig\.(Blkio\w+|Devices|Dns\w*|PortBindings|Ulimits):/,
  /\[\]\.RepoDigests:/,
  /\.RegistryConfig\.(AllowNondistributable\w+|Mirrors):/,
];

const ownFacts: readonly RegExp[] = [
  /\.Details\.(Backend|BuildTime|GitCommit|GoVersion):/,
  /\.(BuildTime|Labels(\[\]|\.sockerless\.built-in)?):/,
  /\.Runtimes\./,
];
