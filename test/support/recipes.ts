/** Recipes of docs/ci: their pages and commands, and small images in the place of those that they name. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { checkout, type Daemon } from "./daemon.ts";
import { busyboxRootfsFile } from "./images.ts";

/** The text of a page of docs/ci. */
export function readRecipe(name: string): Promise<string> {
  return readFile(join(checkout, `docs/ci/${name}.md`), "utf8");
}

/** The commands of a page that begin with a comment, with images of a registry in the place of those that they name. */
export function commandsOf(page: string, comment: string, registry: string): string {
  const block =
    [...page.matchAll(/^```sh\n(.*?)^```$/gms)]
      .map(([, each = ""]) => each)
      .find((each) => each.startsWith(`# ${comment}\n`)) ?? assert.fail(`no block begins so: ${comment}`);
  return block.replaceAll(/ (node:22|nginx:1|maven:3)\b/g, ` ${registry}/$1`);
}

/** A web server that answers `served`. */
export const servingCommand = "mkdir /w; echo served >/w/index.html; httpd -f -p 80 -h /w";

/** Imports busybox under a name, with a command. */
export async function importAs(daemon: Daemon, name: string, command: string): Promise<void> {
  await daemon.ok("import", "--change", `CMD ["sh", "-c", "${command}"]`, await busyboxRootfsFile(), name);
}
