/** Images of the jobs, their services and GitLab Runner's helper. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { runCommand } from "../../support/command.ts";
import { checkout, type Daemon } from "../../support/daemon.ts";
import type { FixtureImage, Tagged } from "../../support/images.ts";
import { type TarEntry, tarOf } from "../../support/tar.ts";
import { debianRoot } from "../debian-root.ts";
import { busyboxRoot, path, unpackedImages } from "../frozen-images.ts";

/** Name of the helper's image in the runner's configuration. */
export const helperImage = "gitlab-runner-helper:test";

/** A directory with the images, unpacked. @param programs directory of the runner's programs */
export async function gitlabImages(programs: string): Promise<string> {
  const helper = await readFile(join(programs, "gitlab-runner-helper"));
  const inputs = [helper, await readFile(new URL(import.meta.url))];
  return await unpackedImages("gitlab-images", inputs, () => images(helper));
}

/** Loads the images of such a directory. */
export async function loadImages(daemon: Daemon, directory: string): Promise<void> {
  const archive = join(daemon.directory, "images.tar");
  const packed = await runCommand("tar", ["--create", `--file=${archive}`, `--directory=${directory}`, "."]);
  assert.equal(packed.code, 0, packed.errorText);
  await daemon.ok("load", "--input", archive);
}

async function images(helper: Buffer): Promise<Tagged[]> {
  const busybox = await busyboxRoot();
  const debian = await debianRoot(["dash", "git", "curl"]);
  const image = async (config: object, ...files: readonly TarEntry[]): Promise<FixtureImage> => ({
    layers: [busybox, ...(files.length === 0 ? [] : [await tarOf(files)])],
    config: { Env: [path], Cmd: ["sh"], ...config },
  });
  const helperPrograms = await tarOf([
    { name: "usr/bin/gitlab-runner-helper", mode: 0o755, content: helper },
    { name: "usr/bin/gitlab-runner-build", mode: 0o755, content: "#!/bin/sh\nexec bash\n" },
  ]);
  const user = await tarOf([
    { name: "etc/", type: "directory" },
    { name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\nbuilder:x:1234:1234::/tmp:/bin/sh\n" },
  ]);
  return [
    { image: { layers: [debian], config: { Env: [path], Cmd: ["bash"] } }, tags: ["debian:job"] },
    {
      image: { layers: [debian, helperPrograms], config: { Env: [path], Cmd: ["sh"] } },
      tags: [helperImage],
    },
    { image: await image({}), tags: ["busybox:job"] },
    {
      image: await image(
        { Env: [path, "IN_IMAGE=1"], Entrypoint: ["/entrypoint"] },
        script("entrypoint", 'export FROM_ENTRYPOINT=yes\nexec "$@"'),
      ),
      tags: ["entrypoint:job"],
    },
    {
      image: await image(
        { Entrypoint: ["/entrypoint"] },
        script("entrypoint", "echo entrypoint ran\nexit 3"),
      ),
      tags: ["failing-entrypoint:job"],
    },
    {
      image: { layers: [busybox, user], config: { Env: [path], User: "builder", Cmd: ["sh"] } },
      tags: ["user:job"],
    },
    { image: await image(served(8080, "0")), tags: ["web:job"] },
    { image: await image(served(8080, "3")), tags: ["team/slow-web:job"] },
    { image: await image({ Cmd: ["sh", "-c", "echo service died; exit 1"] }), tags: ["dead:job"] },
    {
      image: {
        layers: [
          await tarOf([
            { name: "hello", mode: 0o755, content: await readFile(join(checkout, "build/hello")) },
          ]),
        ],
        config: { Env: [path], Cmd: ["/hello"] },
      },
      tags: ["hello-world:job"],
    },
  ];
}

/** Configuration of a web server that listens after so many seconds. */
function served(port: number, afterSeconds: string): object {
  const serve = `mkdir /web; echo served > /web/index.html; exec httpd -f -p ${port} -h /web`;
  return {
    Cmd: ["sh", "-c", `sleep ${afterSeconds}; echo service is up; ${serve}`],
    ExposedPorts: { [`${port}/tcp`]: {} },
  };
}

function script(name: string, lines: string): TarEntry {
  return { name, mode: 0o755, content: `#!/bin/sh\n${lines}\n` };
}
