/** A small Debian made of what dpkg installed on this machine: shell, coreutils, util-linux and what they need. */
import { lstatSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";

import { runCommand } from "../support/command.ts";

const wanted = ["base-files", "base-passwd", "bash", "coreutils", "findutils", "grep", "hostname"].concat([
  "libc-bin",
  "login",
  "mount",
  "sed",
  "tar",
  "util-linux",
]);
const leftOut = /^\/usr\/share\/(doc|man|locale|info|lintian|bug|bash-completion)\//;

/** Its root file system as a tar. @param packages that it is to have besides, where they are installed */
export async function debianRoot(packages: readonly string[] = []): Promise<Buffer> {
  const paths = new Set(["/bin", "/sbin", "/lib", "/lib64"]);
  for (const path of await filesOf(await closureOf([...wanted, ...packages]))) {
    if (!leftOut.test(path)) {
      addIfThere(paths, path);
    }
  }
  const files = [...paths].map((path) => path.slice(1));
  // Those of base-passwd know the users of every Debian; the machine's own know its owner's.
  const masters = ["passwd", "group"].map((name) => `s,^usr/share/base-passwd/${name}.master$,etc/${name},`);
  const tar = await runCommand(
    "tar",
    [
      ...["--create", "--directory=/", "--no-recursion", "--numeric-owner", "--sort=name", "--mtime=@0"],
      ...masters.map((expression) => `--transform=${expression}`),
      "--files-from=-",
    ],
    { input: `${files.join("\n")}\n` },
  );
  if (tar.code !== 0) {
    throw new Error(`tar of a Debian root failed: ${tar.errorText}`);
  }
  return tar.stdout;
}

/** Packages with all that they depend on, of those that are installed. */
async function closureOf(names: readonly string[]): Promise<ReadonlySet<string>> {
  const { text } = await runCommand("dpkg-query", [
    "--show",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own syntax
    "--showformat=${Package}\t${Pre-Depends}, ${Depends}\n",
  ]);
  const dependencies = new Map(
    text.split("\n").map((line): [string, string[]] => {
      const [name = "", depends = ""] = line.split("\t");
      return [name, depends.split(/[,|]/).map((each) => each.trim().replace(/[\s:(].*$/, ""))];
    }),
  );
  const found = new Set<string>();
  const add = (name: string): void => {
    if (dependencies.has(name) && !found.has(name)) {
      found.add(name);
      dependencies.get(name)?.forEach(add);
    }
  };
  names.forEach(add);
  return found;
}

async function filesOf(packages: ReadonlySet<string>): Promise<string[]> {
  const { text } = await runCommand("dpkg-query", ["--listfiles", ...packages]);
  return text.split("\n").filter((path) => path.startsWith("/") && path !== "/.");
}

/** Adds a path as it lies on this machine, where `/bin` is a link to `/usr/bin`, and the target of a link to a library. */
function addIfThere(paths: Set<string>, path: string): void {
  try {
    const real = join(realpathSync(dirname(path)), basename(path));
    lstatSync(real);
    paths.add(real);
  } catch {
    // Removed since it was installed, as documentation is on small machines.
  }
}
