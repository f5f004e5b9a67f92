/**
 * `npm run package`: the Debian packages of sockerless, for amd64 and arm64, and its npm package. Two builds of a commit
 * are equal byte for byte: npm installs what package-lock.json names, Go compiles reproducibly, and no file is younger
 * than the commit.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";

import { Command, Option } from "commander";

import { writeDeb } from "./package/deb.ts";
import { writeNpmPackage } from "./package/npm.ts";
import { root, run } from "./program.ts";

const architectures = ["amd64", "arm64"] as const;
const kinds = ["deb", "npm"] as const;

const { output, kind, architecture } = new Command("npm run package --")
  .description("Writes the packages of sockerless.")
  .allowExcessArguments(false)
  .showHelpAfterError("See --help.")
  .option("--output <directory>", "of the packages", join(root, "build/packages"))
  .addOption(new Option("--kind <name...>", "of packages").choices(kinds).default(kinds))
  .addOption(
    new Option("--architecture <name...>", "of the Debian packages")
      .choices(architectures)
      .default(architectures),
  )
  .parse()
  .opts<{
    output: string;
    kind: readonly (typeof kinds)[number][];
    architecture: readonly (typeof architectures)[number][];
  }>();

const { code, output: said } = await run("git", ["log", "-1", "--format=%H %cs %ct"]);
const [commit = "", date = "", seconds = ""] = said.trim().split(" ");
if (code !== 0) {
  throw new Error(`the commit is unknown: ${said}`);
}
await mkdir(resolve(output), { recursive: true });
for (const each of kind.includes("deb") ? architecture : []) {
  console.log(await writeDeb(resolve(output), each, { commit, date, seconds }));
}
if (kind.includes("npm")) {
  console.log(await writeNpmPackage(resolve(output), { commit, date, seconds }));
}
