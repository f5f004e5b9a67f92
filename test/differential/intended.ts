/** The differences from dockerd 20.10 that are meant; each has its paragraph in docs/differences.md. */
import type { Call } from "./calls.ts";
import { intendedErrors } from "./intended-errors.ts";
import { type Aspect, Rules } from "./rules.ts";

const everywhereAdded = /^GET \/containers\/(json|\w+\/json)/;
const inspect = /^GET \/containers\/\w+\/json/;
/** Inspections of containers that the API has made; the CLI sends empty lists. */
const inspectOfApis = /^GET \/containers\/(notfound|tty|labels|health|volumes|memory)\/json/;
const imageInspect = /^GET \/images\/\S+\/json$/;
const withoutHeaders = /^(\w+ \/nothing|DELETE \/_ping|POST \/containers\/\w+\/attach)$/;

/** By the heading in docs/differences.md. */
export const rulesOfBoth = new Rules({
  "Streams say what they are": [
    {
      aspect: "contentType",
      calls: /\/logs\?/,
      ours: /^application\/vnd\.docker\.raw-stream$/,
      theirs: /^$/,
    },
  ],
  "Every answer says who answers": [
    { aspect: "headers", calls: withoutHeaders, ours: /^api-version$/ },
    { aspect: "headers", calls: withoutHeaders, ours: /^docker-experimental: false$/ },
    { aspect: "headers", calls: withoutHeaders, ours: /^ostype: linux$/ },
    { aspect: "headers", calls: /^(GET|HEAD) \/_ping$/, ours: /^builder-version$/ },
  ],
  "Phases of a start": [{ aspect: "shape", calls: inspect, ours: /^\.StartPhases(: array$|\[\])/ }],
  "Volumes have the drivers block and tmpfs, too": [
    { aspect: "shape", calls: /^GET \/volumes\/one$/, ours: /^\.Status(: object|\.format: string)$/ },
  ],
  "Fields that later versions dropped": [
    { aspect: "shape", calls: /^GET \/info$/, theirs: /^\.KernelMemory(TCP)?: boolean$/ },
    { aspect: "shape", calls: inspect, theirs: /^\.HostConfig\.KernelMemory(TCP)?: number$/ },
    { aspect: "shape", calls: imageInspect, theirs: /^\.Container: string$/ },
    { aspect: "shape", calls: imageInspect, theirs: /^\.ContainerConfig(\.|: object$)/ },
    { aspect: "shape", calls: /\/wait$/, theirs: /^\.Error: null$/ },
  ],
  "Fields that later versions added": [
    {
      aspect: "shape",
      calls: everywhereAdded,
      ours: /^(\[\])?\.NetworkSettings\.Networks\.none\.(DNSNames: null|GwPriority: number)$/,
    },
    { aspect: "shape", calls: /^GET \/networks\/none$/, ours: /^\.EnableIPv4: boolean$/ },
    { aspect: "shape", calls: /^GET \/info$/, ours: /^\.CDISpecDirs: array$/ },
    { aspect: "shape", calls: /^GET \/info$/, ours: /^\.DefaultAddressPools(\[\]|: array$)/ },
    {
      aspect: "shape",
      calls: /^GET \/volumes$/,
      ours: /^\.Volumes\[\]\.Labels(\.com\.docker\.volume\.anonymous: string|: object)$/,
    },
    { aspect: "shape", calls: /^GET \/volumes$/, theirs: /^\.Volumes\[\]\.Labels: null$/ },
  ],
  "Empty lists are lists": [
    {
      aspect: "shape",
      calls: inspectOfApis,
      ours: /^\.HostConfig\.(Blkio\w+|Devices|Dns\w*|Ulimits): array$/,
    },
    { aspect: "shape", calls: inspectOfApis, ours: /^\.HostConfig\.PortBindings: object$/ },
    {
      aspect: "shape",
      calls: inspectOfApis,
      theirs: /^\.HostConfig\.(Blkio\w+|Devices|Dns\w*|PortBindings|Ulimits): null$/,
    },
    { aspect: "shape", calls: /^GET \/images\/json/, ours: /^\[\]\.RepoDigests: array$/ },
    { aspect: "shape", calls: /^GET \/images\/json/, theirs: /^\[\]\.RepoDigests: null$/ },
    {
      aspect: "shape",
      calls: /^GET \/info$/,
      ours: /^\.RegistryConfig\.(AllowNondistributable\w+|Mirrors): null$/,
    },
    {
      aspect: "shape",
      calls: /^GET \/info$/,
      theirs: /^\.RegistryConfig\.(AllowNondistributable\w+|Mirrors): array$/,
    },
    { aspect: "shape", calls: /^GET \/volumes$/, ours: /^\.Warnings: array$/ },
    { aspect: "shape", calls: /^GET \/volumes$/, theirs: /^\.Warnings: null$/ },
    { aspect: "shape", calls: /\/committed:one\/json$/, ours: /^\.Config\.Labels: null$/ },
    { aspect: "shape", calls: /\/committed:one\/json$/, theirs: /^\.Config\.Labels: object$/ },
  ],
  "No paths of layers": [
    { aspect: "shape", calls: /\/json(\?size=1)?$/, ours: /^\.GraphDriver\.Data: null$/ },
    { aspect: "shape", calls: /\/json(\?size=1)?$/, theirs: /^\.GraphDriver\.Data: object$/ },
    {
      aspect: "shape",
      calls: /\/json(\?size=1)?$/,
      theirs: /^\.GraphDriver\.Data\.(Lower|Merged|Upper|Work)Dir: string$/,
    },
  ],
  "What sockerless is made of": [
    {
      aspect: "shape",
      calls: /^GET \/version$/,
      theirs: /^(\.Components\[\]\.Details)?\.(BuildTime|GitCommit): string$/,
    },
    { aspect: "shape", calls: /^GET \/info$/, ours: /^\.Labels\[\]: string$/ },
    {
      aspect: "shape",
      calls: /^GET \/info$/,
      theirs: /^\.Runtimes\.io\.containerd\.(runc\.v2|runtime\.v1\.linux)(: object|\.path: string)$/,
    },
    {
      aspect: "shape",
      calls: /^GET \/images\/json/,
      ours: /^\[\]\.Labels(\.sockerless\.built-in: string|: object)$/,
    },
    { aspect: "shape", calls: /^GET \/images\/json/, theirs: /^\[\]\.Labels: null$/ },
  ],
});

const usedErrors = new Set<string>();

/**
 * True if a difference is one of those that docs/differences.md gives a reason for; one side may be empty.
 */
export function isIntended(call: Call, aspect: Aspect, ours: string, theirs: string): boolean {
  if (aspect === "error") {
    return isIntendedError(call, ours, theirs);
  }
  return rulesOfBoth.covers(call, aspect, ours, theirs);
}

function isIntendedError({ method, path }: Call, ours: string, theirs: string): boolean {
  const plain = `${method} ${decodeURIComponent(path)}`;
  const name = /^\w+ \/containers\/(running|exited|created|missing)\//.exec(plain)?.[1];
  const unnamed = (text: string): string =>
    name === undefined ? text : text.replaceAll(new RegExp(`\\b${name}\\b`, "g"), "*");
  const request = name === undefined ? plain : plain.replace(`/containers/${name}/`, "/containers/*/");
  const rule = Object.values(intendedErrors)
    .flat()
    .find(
      (each) =>
        each.ours === unnamed(ours) &&
        (each.theirs.endsWith("…")
          ? theirs.startsWith(each.theirs.slice(0, -1))
          : each.theirs === unnamed(theirs)) &&
        each.calls.includes(request),
    );
  if (rule !== undefined) {
    usedErrors.add(`${rule.ours} ${rule.theirs} ${request}`);
  }
  return rule !== undefined;
}

/** The rules that no difference has needed, for a person to read. */
export function unusedRules(): readonly string[] {
  return [
    ...rulesOfBoth.unused,
    ...Object.values(intendedErrors)
      .flat()
      .flatMap(({ ours, theirs, calls }) =>
        calls.map((call) => `${ours} ${theirs} ${call}`).filter((key) => !usedErrors.has(key)),
      ),
  ];
}
