/** Images on a simulated Azure: pushed, fetched by the registry itself, derived, and gone again. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { busyboxImage, dockerArchive } from "../support/images.ts";
import { inSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe("images on Container Apps", () => {
  const aca = duringTests(() => AcaDaemon.start({ aca: { linger: "1s", drain_timeout: "1s" } }));

  before(async () => {
    await aca.account.registry.push("other-user", "latest", await busyboxImage({ User: "1000:1000" }));
  });

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const imports = (): number => aca.azure.calls.count("registry.Registries_ImportImage");

  it(
    "of other users than root run as these, from layers that the registry has fetched itself",
    inSoak,
    async () => {
      const image = aca.account.image("other-user:latest");
      assert.equal(await ok("run", "--rm", image, "id", "-u"), "1000");
      const before = imports();
      assert.ok(before > 0);
      assert.equal(await ok("run", "--rm", "--user", "0", image, "id", "-u"), "0");
      assert.equal(imports(), before, "it is derived once");
      await ok("rmi", image);
    },
  );

  it("of root are pulled as they are", async () => {
    const before = imports();
    assert.equal(await ok("run", "--rm", "busybox", "id", "-u"), "0");
    assert.equal(imports(), before);
  });

  it("that are mounted are copied with root's rights, whoever they run as", inSoak, async () => {
    const image = aca.account.image("other-user:latest");
    const script =
      "mkdir -p /tool/bin && echo v1 > /tool/bin/version && chmod 700 /tool && ln -s /tool /current";
    await ok("run", "--detach", "--name", "maker", "--user", "0", image, "sleep", "600");
    await ok("exec", "maker", "sh", "-c", script);
    await ok("commit", "--change", "USER 1000", "maker", "tools:1");
    await ok("rm", "--force", "maker");
    const mount = (target: string, more = ""): string[] => [
      ...["--mount", `type=image,source=tools:1,target=${target}${more}`],
    ];
    const look =
      "cat /a/tool/bin/version /b/version; readlink /a/current; find /a -name '*sockerless*'; ls -A /a/proc; touch /a/x";
    const shown = await aca.daemon.docker(
      ...["run", "--rm", ...mount("/a"), ...mount("/b", ",image-subpath=current/bin")],
      ...["busybox", "sh", "-c", look],
    );
    assert.deepEqual([shown.text, shown.code], ["v1\nv1\n/tool", 0], shown.errorText);
    assert.match(shown.errorText, /does not apply --mount type=image \(read-only\)/);
    const missing = await aca.daemon.docker(
      ...["run", "--rm", ...mount("/a", ",image-subpath=none"), "busybox", "true"],
    );
    assert.equal(missing.code, 125);
    assert.match(missing.errorText, /the image has no path none/);
  });

  it("that are loaded are put into the registry, and run from there", async () => {
    const scratch = scratchDirectory();
    const file = join(scratch, "image.tar");
    const image = await busyboxImage({ User: "1001", Labels: { loaded: "yes" } });
    await writeFile(file, await dockerArchive([{ image, tags: ["loaded:latest"] }]));
    await ok("load", "--input", file);
    assert.equal(await ok("run", "--rm", "loaded", "id", "-u"), "1001");
  });
});
