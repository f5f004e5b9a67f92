/** The differences from dockerd 28.5.2 that are meant, by their headings in docs/differences.md. */
import { Rules } from "./rules.ts";

/** By the heading in docs/differences.md; what 20.10 differs in too is in intended.ts. */
export const rulesOfRelease28 = new Rules({
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
});
