/** Networks and volumes of containers as jobs, by the docker CLI: what one leaves another finds, on shares as strict as SMB. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";

describe("containers as jobs", () => {
  let aca: AcaDaemon;
  before(async () => {
    aca = await AcaDaemon.start({ aca: { linger: "0s", drain_timeout: "2s" } });
  });
  after(() => aca?.stop());

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const sh = (options: readonly string[], script: string): Promise<string> =>
    ok("run", "--rm", ...options, "busybox", "sh", "-c", script);
  const refusal = async (...args: string[]): Promise<string> => {
    const { code, errorText } = await aca.daemon.docker(...args);
    assert.notEqual(code, 0);
    return errorText;
  };

  it("hand files on by a named volume, as root and as another user, at the same time too", async () => {
    await ok("volume", "create", "--label", "of=test", "build");
    const volume = ["--volume", "build:/build"];
    await sh(volume, "mkdir /build/src && echo cloned > /build/src/file");
    const seen = await sh(
      [...volume, "--user", "1000"],
      "cat /build/src/file; echo built > /build/src/out && stat -c %u /build/src/out",
    );
    assert.equal(seen, "cloned\n1000");
    await ok("run", "--detach", "--name", "holder", ...volume, "busybox", "sleep", "1000");
    assert.equal(await sh(["--volumes-from", "holder"], "cat /build/src/out"), "built");
    assert.match(await refusal("volume", "rm", "build"), /volume is in use/);
    const template = aca.azure.app.jobs
      .names()
      .flatMap((job) => aca.azure.app.jobs.body(job)?.properties?.template?.volumes ?? []);
    assert.ok(template.some(({ storageType, storageName }) => storageType === "AzureFile" && storageName));
    await ok("rm", "--force", "holder");
  });

  it("read a volume that is mounted for reading, and do not write it", async () => {
    const written = "cat /build/src/file && ! touch /build/new 2>/dev/null && echo refused";
    assert.equal(await sh(["--volume", "build:/build:ro"], written), "cloned\nrefused");
    assert.equal(
      await ok("volume", "inspect", "--format", "{{.Driver}} {{.Mountpoint}}", "build"),
      "azure-files /mnt/azure/build",
    );
    await ok("volume", "rm", "build");
    assert.equal(await ok("volume", "ls", "--quiet"), "");
  });

  it("have anonymous volumes of their own", async () => {
    assert.equal(await sh(["--volume", "/scratch"], "echo mine > /scratch/file; cat /scratch/file"), "mine");
    assert.match(await refusal("run", "--rm", "--volume", "x:/with:colon", "busybox", "true"), /colon|:/);
  });

  it("are on networks, which stay while they are", async () => {
    await ok("network", "create", "lane");
    const id = await ok(
      "run",
      "--detach",
      "--network",
      "lane",
      "--network-alias",
      "web",
      "busybox",
      "sleep",
      "1000",
    );
    const { NetworkSettings: settings } = JSON.parse(await ok("inspect", "--format", "{{json .}}", id)) as {
      readonly NetworkSettings: {
        readonly Networks: Readonly<
          Record<string, { readonly IPAddress: string; readonly Aliases: readonly string[] }>
        >;
      };
    };
    assert.match(settings.Networks["lane"]?.IPAddress ?? "", /^172\.18\./);
    assert.ok(settings.Networks["lane"]?.Aliases.includes("web"));
    assert.match(await refusal("network", "rm", "lane"), /network has active endpoints/);
    await ok("rm", "--force", id);
    await ok("network", "rm", "lane");
  });
});
