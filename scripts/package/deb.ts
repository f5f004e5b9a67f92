/** The Debian package, made by dpkg's own tools: with its own Node, and nothing of it compiled where it is installed. */
import { cp, lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { dirname, join, relative } from "node:path";
import { gzipSync } from "node:zlib";

import { root, run } from "../program.ts";
import {
  addGoPrograms,
  addNodePackages,
  addProgram,
  type Architecture,
  type Commit,
  setModes,
} from "./application.ts";
import { bashCompletion, manPages, zshCompletion } from "./command-pages.ts";

const home = "usr/lib/sockerless";
const documents = "usr/share/doc/sockerless";

/** Dependencies by their names in Debian: libraries of Node, then programs for containers of this machine. */
const depends = [
  ...["libc6 (>= 2.28)", "libstdc++6", "libgcc-s1", "libatomic1", "ca-certificates"],
  ...["runc | crun", "nftables", "e2fsprogs", "passwd"],
];

/**
 * Writes the package.
 *
 * @returns its path
 */
export async function writeDeb(output: string, architecture: Architecture, commit: Commit): Promise<string> {
  const scratch = await mkdtemp(join(output, ".deb-"));
  try {
    const tree = join(scratch, "tree");
    await mkdir(join(tree, home), { recursive: true });
    await addNodePackages(join(tree, home), architecture);
    await addProgram(join(tree, home), commit);
    await addGoPrograms(join(tree, home, "build"), architecture, true);
    await addSystemFiles(tree, commit);
    await setModes(tree);
    await addControl(tree, architecture, commit);
    const file = join(output, `sockerless_${await version()}_${architecture}.deb`);
    const { code, output: said } = await run(
      "dpkg-deb",
      ["--root-owner-group", "--uniform-compression", "-Zxz", "-z1", "--build", tree, file],
      // One thread: how many there are changes the bytes.
      { env: { SOURCE_DATE_EPOCH: commit.seconds, DPKG_DEB_THREADS_MAX: "1" } },
    );
    if (code !== 0) {
      throw new Error(`dpkg-deb ended with ${code}:\n${said}`);
    }
    return file;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function version(): Promise<string> {
  return (JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string }).version;
}

/** Units, settings, completions, man pages and documents. */
async function addSystemFiles(tree: string, { date }: Commit): Promise<void> {
  const from = join(root, "deploy/packages");
  const put = async (path: string, content: string | Buffer): Promise<void> => {
    await mkdir(dirname(join(tree, path)), { recursive: true });
    await writeFile(join(tree, path), content);
  };
  await mkdir(join(tree, "usr/bin"), { recursive: true });
  await symlink("../lib/sockerless/bin/sockerless", join(tree, "usr/bin/sockerless"));
  await cp(join(from, "systemd"), join(tree, "usr/lib/systemd/system"), { recursive: true });
  await put("etc/sockerless/sockerless.yaml", await readFile(join(from, "sockerless.yaml")));
  await put("etc/logrotate.d/sockerless", await readFile(join(from, "logrotate")));
  await put("usr/share/bash-completion/completions/sockerless", bashCompletion());
  await put("usr/share/zsh/vendor-completions/_sockerless", zshCompletion());
  for (const [name, page] of manPages(date)) {
    await put(`usr/share/man/man1/${name}.gz`, gzipSync(page, { level: 9 }));
  }
  await put(
    `${documents}/configuration.md.gz`,
    gzipSync(await readFile(join(root, "docs/configuration.md"))),
  );
  await put(`${documents}/copyright`, await readFile(join(root, "LICENSE")));
}

async function addControl(tree: string, architecture: Architecture, { commit }: Commit): Promise<void> {
  const control = join(tree, "DEBIAN");
  await mkdir(control);
  const files = (await filesBelow(tree)).filter((path) => !path.startsWith("DEBIAN/"));
  const statuses = await Promise.all(files.map((path) => lstat(join(tree, path))));
  const bytes = statuses.reduce((sum, { size }) => sum + size, 0);
  const sums = await Promise.all(
    files
      .filter((_, index) => statuses[index]?.isFile())
      .map(async (path) => {
        const digest = createHash("md5").update(await readFile(join(tree, path)));
        return `${digest.digest("hex")}  ${path}\n`;
      }),
  );
  const fields = {
    Package: "sockerless",
    Version: await version(),
    Architecture: architecture,
    Maintainer: "sockerless maintainers <maintainers@sockerless.invalid>",
    "Installed-Size": Math.ceil(bytes / 1024),
    Depends: depends.join(", "),
    Recommends: "git, logrotate",
    Section: "admin",
    Priority: "optional",
    "Vcs-Commit": commit,
    Description:
      "Docker Engine API without a Docker engine\n" +
      " Containers on this machine, on AWS ECS Fargate, on Azure Container Apps or in\n" +
      " a Kubernetes cluster, for any client of Docker's API.",
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`);
  await writeFile(join(control, "control"), lines.join(""));
  await writeFile(
    join(control, "conffiles"),
    "/etc/sockerless/sockerless.yaml\n/etc/logrotate.d/sockerless\n",
  );
  await writeFile(join(control, "md5sums"), sums.join(""));
  for (const script of ["postinst", "prerm", "postrm"]) {
    const content = await readFile(join(root, "deploy/packages/deb", script));
    await writeFile(join(control, script), content, { mode: 0o755 });
  }
}

/** Paths of files and links below a directory, in order. */
async function filesBelow(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort();
}
