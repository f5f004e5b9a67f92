/** The differences from dockerd 28.5.2 that are meant, by their headings in docs/differences.md. */
import type { Call } from "./calls.ts";
import type { Aspect } from "./intended.ts";

/**
 * An answer that one side gives and the other does not, or gives instead; an error is its status and text.
 */
interface Rule {
  readonly aspect: Aspect;
  /** Pattern of `METHOD path`. */
  readonly calls: RegExp;
  readonly ours?: RegExp;
  readonly theirs?: RegExp;
}

/** By the heading in docs/differences.md; what 20.10 differs in too is in intended.ts. */
export const groupsOfRelease28: Readonly<Record<string, readonly Rule[]>> = {
  "No paths of layers": [
    { aspect: "shape", calls: /\/json(\?size=1)?$/, theirs: /^\.GraphDriver\.Data\.ID: string$/ },
  ],
  "What sockerless is made of": [
    { aspect: "shape", calls: /^GET \/info$/, ours: /^\.FirewallBackend(: object|\.Driver: string)$/ },
    {
      aspect: "shape",
      calls: /^GET \/info$/,
      theirs:
        /^\.Runtimes\.(runc|io\.containerd\.runc\.v2)\.status(: object|\.org\.opencontainers\S+: string)$/,
    },
    { aspect: "shape", calls: /^GET \/info$/, theirs: /^\.CDISpecDirs\[\]: string$/ },
    { aspect: "shape", calls: /^GET \/info$/, theirs: /^\.Containerd(: object|\.\S+: (object|string))$/ },
  ],
  "What cannot be read is the client's error": [
    {
      aspect: "error",
      calls: /^POST \/images\/create\?fromSrc=-&repo=imported$/,
      ours: /^400 unexpected EOF$/,
      theirs: /^500 unexpected EOF$/,
    },
    {
      aspect: "error",
      calls: /^POST \/containers\/create$/,
      ours: /^400 .* Go struct field CreateRequest\.HostConfig\.Memory of type int64$/,
      theirs: /^400 .* Go struct field HostConfig\.HostConfig\.Resources\.Memory of type int64$/,
    },
    {
      aspect: "error",
      calls: /^POST \/images\/busybox\/tag$/,
      ours: /^400 invalid reference format$/,
      theirs: /^200$/,
    },
  ],
  "Empty lists are lists": [
    { aspect: "shape", calls: /^GET \/networks\/none$/, ours: /^\.IPAM\.Config: array$/ },
    { aspect: "shape", calls: /^GET \/networks\/none$/, theirs: /^\.IPAM\.Config: null$/ },
  ],
  "Fields that later versions dropped": [
    { aspect: "shape", calls: /\/stats\?stream=0&one-shot=1$/, ours: /^\.(id|name): string$/ },
  ],
};

const used = new Set<Rule>();

/**
 * True if a difference is one of those that docs/differences.md gives a reason for; one side may be empty.
 */
export function isIntendedOfRelease28(call: Call, aspect: Aspect, ours: string, theirs: string): boolean {
  const request = `${call.method} ${decodeURIComponent(call.path)}`;
  const matching = Object.values(groupsOfRelease28)
    .flat()
    .filter(
      (rule) =>
        rule.aspect === aspect &&
        rule.calls.test(request) &&
        (rule.ours === undefined ? ours === "" : rule.ours.test(ours)) &&
        (rule.theirs === undefined ? theirs === "" : rule.theirs.test(theirs)),
    );
  for (const rule of matching) {
    used.add(rule);
  }
  return matching.length > 0;
}

/** The rules that no difference has needed, for a person to read. */
export function unusedOfRelease28(): readonly string[] {
  return Object.entries(groupsOfRelease28).flatMap(([heading, rules]) =>
    rules
      .filter((rule) => !used.has(rule))
      .map(({ aspect, calls, ours, theirs }) => `${heading}: ${aspect} ${calls} ${ours} ${theirs}`),
  );
}
