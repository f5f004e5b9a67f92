/**
 * The hand-off of GitLab's runner: a helper clones into a volume, and the build goes on with it in a job of its own, each as
 * root or as another user, on shares which refuse modes of others and hard links as SMB does.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { GitServer } from "../support/git-server.ts";
import { busyboxImage } from "../support/images.ts";
import { layerOf } from "../support/machine-programs.ts";

const gitPrograms = [
  ...["/usr/bin/git", "/usr/bin/git-upload-pack", "/usr/lib/git-core/git-remote-http"],
  ...["/usr/share/git-core/templates/info/*", "/usr/share/git-core/templates/description"],
];
/** A big file beside small ones, so that git packs. */
const files = { "build.sh": "cat source", large: "line of a file\n".repeat(100_000) };

describe("a helper's clone in a volume", () => {
  const { aca, git } = duringTests(async (resources) => {
    const aca = resources.use(await AcaDaemon.start({ aca: { linger: "0s", drain_timeout: "2s" } }));
    const git = resources.use(await GitServer.start(aca.azure.hostAddress));
    const { registry } = aca.account;
    const { layers, config } = await busyboxImage();
    await registry.push("helper", "latest", { layers: [...layers, await layerOf(...gitPrograms)], config });
    await aca.daemon.ok("pull", aca.account.image("helper:latest"));
    await aca.daemon.ok("tag", aca.account.image("helper:latest"), "helper");
    return { aca, git };
  });

  const volume = ["--volume", "builds:/builds", "--env", "HOME=/tmp"];
  const run = async (image: string, user: string, ...script: string[]): Promise<string> => {
    const command = ["--interactive", ...volume, "--user", user, image, "sh"]; // Scripts come on the standard input.
    const input = ["set -e", ...script, ""].join("\n");
    const { code, text, errorText } = await aca.daemon.dockerWith({ input }, "run", "--rm", ...command);
    assert.equal(code, 0, `${text}\n${errorText}`);
    return text;
  };

  for (const [helper, build] of [
    ["0", "1000:1000"],
    ["1000:1000", "0"],
  ] as const) {
    it(`by ${helper} is built by ${build}, and fetched into again`, async () => {
      const first = await git.commit({ ...files, source: `first of ${helper}\n` });
      const project = `/builds/${helper.replace(":", "-")}`;
      assert.equal(
        await run(
          "helper",
          helper,
          `mkdir ${project} && chmod 777 ${project}`, // As the runner prepares its caches.
          `git clone --quiet ${git.url} ${project}/project`,
          `cd ${project}/project && git rev-parse HEAD && git status --porcelain`,
        ),
        first,
      );
      // The build owns what it finds, and adds to it.
      const built = await run(
        "helper",
        build,
        `cd ${project}/project && git status --porcelain && sh build.sh && stat -c %u source .git/config`,
        "if ln source link; then exit 9; fi", // As SMB does.
        "git clone --quiet . ../copy",
        "git -C ../copy rev-parse HEAD",
        "echo built > out && git add out && git -c user.name=b -c user.email=b@c commit --quiet -m built",
        "git gc --quiet && git fsck && git diff --exit-code origin/main --stat -- source",
      );
      const [own] = build.split(":");
      assert.equal(built, [`first of ${helper}`, own, own, first].join("\n"));
      const second = await git.commit({ source: `second of ${helper}\n` });
      const again = ["git fetch --quiet", "git checkout --quiet --force origin/main", "git clean -ffdxq"];
      const told = ["git rev-parse HEAD", "cat source", "sha256sum large", "ls"];
      const [digest, ...rest] = (
        await run("helper", helper, `cd ${project}/project`, ...again, ...told)
      ).split("\n");
      assert.equal(digest, second);
      assert.deepEqual(rest.toSpliced(1, 1), [`second of ${helper}`, "build.sh", "large", "source"]);
    });
  }
});
