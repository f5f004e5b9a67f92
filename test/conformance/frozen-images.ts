/**
 * The images that Docker's suites expect to be there (moby's Dockerfile, `frozen-images`), under their names, made of
 * what Debian packages bring, and the two that they would have built.
 */
import { mkdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { execFileSync } from "node:child_process";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { dockerArchive, type FixtureImage, type Tagged } from "../support/images.ts";
import { type TarEntry, tarOf } from "../support/tar.ts";
import { cached, fingerprint } from "./cache.ts";
import { debianRoot } from "./debian-root.ts";

/** PATH of the images. */
export const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * A directory with them as an archive that is unpacked, which the suites pack and load.
 *
 * @param source the unpacked module of moby: the programs of two images are there
 */
export async function frozenImages(source: string): Promise<string> {
  return await unpackedImages("frozen-images", [], () => images(source));
}

/**
 * A directory with an archive of images, unpacked, made once for each version of these modules and of busybox.
 *
 * @param name below the cache
 * @param inputs what else they are made of, the calling module among it
 */
export async function unpackedImages(
  name: string,
  inputs: readonly Uint8Array[],
  make: () => Promise<Tagged[]>,
): Promise<string> {
  const version = fingerprint(
    await readFile(new URL(import.meta.url)),
    await readFile("/bin/busybox"),
    make.toString(),
    ...inputs,
  );
  return await cached(`${name}-${version}`, async (temporary) => {
    await mkdir(temporary);
    const archive = await dockerArchive(await make());
    const unpacked = await runCommand("tar", ["--extract", `--directory=${temporary}`], { input: archive });
    if (unpacked.code !== 0) {
      throw new Error(`tar: ${unpacked.errorText}`);
    }
  });
}

async function images(source: string): Promise<Tagged[]> {
  const busybox = { layers: [await busyboxRoot()], config: { Env: [path], Cmd: ["sh"] } };
  const debian = { layers: [await debianRoot()], config: { Env: [path], Cmd: ["bash"] } };
  const hello = await readFile(join(checkout, "build/hello"));
  const helloLayer = await tarOf([{ name: "hello", mode: 0o755, content: hello }]);
  const helloWorld = (architecture: string): FixtureImage => ({
    layers: [helloLayer],
    config: { Env: [path], Cmd: ["/hello"] },
    architecture,
  });
  // Another ID than busybox:latest has.
  const glibc = { ...busybox, config: { ...busybox.config, Labels: { libc: "glibc" } } };
  return [
    { image: busybox, tags: ["busybox:latest"] },
    { image: glibc, tags: ["busybox:glibc"] },
    { image: debian, tags: ["debian:bookworm-slim"] },
    { image: helloWorld("amd64"), tags: ["hello-world:latest", "hello-world:amd64"] },
    { image: helloWorld("arm64"), tags: ["hello-world:arm64"] },
    { image: helloWorld("arm"), tags: ["arm32v7/hello-world:latest"] },
    { image: await withPrograms(debian, await syscallTests(source)), tags: ["syscall-test:latest"] },
    { image: await withPrograms(debian, await nnpTest(source)), tags: ["nnp-test:latest"] },
  ];
}

/** The layout of the official busybox: one program under many names, as hard links. */
export async function busyboxRoot(): Promise<Buffer> {
  const binary = "/bin/busybox";
  const applets = execFileSync(binary, ["--list"], { encoding: "utf8" })
    .split("\n")
    .filter((applet) => applet !== "" && applet !== "busybox")
    .toSorted();
  const directories = [
    "bin",
    "dev",
    "etc",
    "etc/network",
    "home",
    "usr",
    "usr/bin",
    "usr/sbin",
    "var",
  ].concat(["var/spool", "var/spool/mail", "var/www"]);
  return await tarOf([
    ...directories.map((name): TarEntry => ({ name: `${name}/`, type: "directory" })),
    { name: "root/", type: "directory", mode: 0o700 },
    { name: "tmp/", type: "directory", mode: 0o1777 },
    { name: "bin/busybox", mode: 0o755, content: await readFile(binary) },
    ...applets.map(
      (applet): TarEntry => ({ name: `bin/${applet}`, type: "link", linkname: "bin/busybox", mode: 0o755 }),
    ),
    // Debian's busybox leaves these two out.
    { name: "bin/addgroup", mode: 0o755, content: addgroup },
    { name: "bin/adduser", mode: 0o755, content: adduser },
    { name: "usr/bin/env", type: "symlink", linkname: "../../bin/env", mode: 0o777 },
    { name: "etc/passwd", content: passwd },
    { name: "etc/group", content: group },
    { name: "etc/shadow", content: "root:*:10933:0:99999:7:::\n", mode: 0o600 },
    { name: "etc/localtime", content: "UTC\n" },
  ]);
}

const addgroup = `#!/bin/sh
while getopts Sg: flag; do
  case $flag in g) gid=$OPTARG ;; esac
done
shift $((OPTIND - 1))
echo "$1:x:\${gid:-$((1000 + $(wc -l </etc/group)))}:" >>/etc/group
`;
const adduser = `#!/bin/sh
while getopts DHSu:G:h:s: flag; do
  case $flag in u) uid=$OPTARG ;; G) group=$OPTARG ;; esac
done
shift $((OPTIND - 1))
uid=\${uid:-1000}
[ -n "\${group:-}" ] || { group=$1; echo "$1:x:$uid:" >>/etc/group; }
gid=$(grep "^$group:" /etc/group | cut -d: -f3)
mkdir -p "/home/$1"
chown "$uid:$gid" "/home/$1"
echo "$1:x:$uid:$gid::/home/$1:/bin/sh" >>/etc/passwd
`;

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
`;
const group = `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:9:
wheel:x:10:root
cdrom:x:11:
dialout:x:18:
floppy:x:19:
video:x:28:
audio:x:29:
tape:x:32:
www-data:x:33:
operator:x:37:
utmp:x:43:
plugdev:x:46:
staff:x:50:
lock:x:54:
netdev:x:82:
users:x:100:
nobody:x:65534:
`;

/** Programs that try what seccomp forbids. */
async function syscallTests(source: string): Promise<TarEntry[]> {
  const folder = join(source, "contrib/syscall-test");
  const entries = ["userns", "ns", "acct", "setuid", "setgid", "socket", "raw"].map((name) =>
    compiledProgram(`${name}-test`, ["-static", join(folder, `${name}.c`)]),
  );
  if (process.arch === "x64") {
    const flags = ["-s", "-m32", "-nostdlib", "-static"];
    entries.push(compiledProgram("exit32-test", [...flags, join(folder, "exit32.s")]));
  }
  return await Promise.all(entries);
}

/** A program with the set-user-ID bit, to see that `no-new-privileges` takes it. */
async function nnpTest(source: string): Promise<TarEntry[]> {
  const program = await compiledProgram("nnp-test", ["-static", join(source, "contrib/nnp-test/nnp-test.c")]);
  return [{ ...program, mode: 0o6755 }];
}

async function compiledProgram(name: string, args: readonly string[]): Promise<TarEntry> {
  const { code, stdout, errorText } = await runCommand("sh", [
    "-c",
    'out=$(mktemp); gcc "$@" -o "$out" && cat "$out"; code=$?; rm -f "$out"; exit $code',
    "gcc",
    ...args,
  ]);
  if (code !== 0) {
    throw new Error(`gcc of ${basename(name)} failed (Debian: gcc, libc6-dev): ${errorText}`);
  }
  return { name: `usr/bin/${name}`, mode: 0o755, content: stdout };
}

async function withPrograms(image: FixtureImage, programs: readonly TarEntry[]): Promise<FixtureImage> {
  const directories = [...new Set(programs.map(({ name }) => dirname(name)))];
  const entries = [
    ...directories.map((name): TarEntry => ({ name: `${name}/`, type: "directory" })),
    ...programs,
  ];
  return { ...image, layers: [...image.layers, await tarOf(entries)] };
}
