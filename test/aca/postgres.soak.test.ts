/**
 * A server that a job reaches by the name `postgres`, whichever starts first: postgres itself, as Debian has it,
 * and what it says to a share for its data directory.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { before, describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { busyboxImage } from "../support/images.ts";
import { layerOf } from "../support/machine-programs.ts";

const programs = "/usr/lib/postgresql/15";
const skip = !existsSync(`${programs}/bin/initdb`) && "Debian's postgresql-15 is not installed";

describe("postgres as a job", { skip }, () => {
  const aca = duringTests(() => AcaDaemon.start({ aca: { linger: "0s", drain_timeout: "2s" } }));

  before(async () => {
    const layer = await layerOf(
      ...["postgres", "initdb", "psql"].map((name) => `${programs}/bin/${name}`),
      ...["plpgsql", "dict_snowball"].map((name) => `${programs}/lib/${name}.so`),
      "/usr/share/postgresql/15/**",
      "/usr/share/zoneinfo/{UTC,Etc/UTC}",
    );
    const { layers, config } = await busyboxImage();
    const env = [...(config["Env"] as string[]), "TZ=UTC", "PGUSER=app", "PGDATABASE=postgres"];
    const path = env.map((each) => each.replace(/^PATH=/, `PATH=${programs}/bin:`));
    const image = { layers: [...layers, layer], config: { ...config, Env: path } };
    await aca.account.registry.push("postgres", "15", image);
    await aca.daemon.ok("pull", aca.account.image("postgres:15"));
    await aca.daemon.ok("tag", aca.account.image("postgres:15"), "postgres");
    await aca.daemon.ok("network", "create", "lane");
  });

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const onLane = ["--network", "lane", "--user", "1000:1000"];
  /** Neighbours need the password, whereas the container itself is trusted. */
  const serve = [
    "initdb --no-sync --auth-local=trust --auth-host=trust -D /tmp/data > /dev/null",
    "echo 'host all all all scram-sha-256' >> /tmp/data/pg_hba.conf",
    `echo "alter role app password 'secret'" | postgres --single -D /tmp/data postgres > /dev/null`,
    "exec postgres -D /tmp/data -k /tmp -c listen_addresses='*' -c fsync=off",
  ].join(" && ");
  const startServer = (): Promise<string> =>
    ok(
      ...["run", "--detach", "--name", "db", "--network-alias", "postgres", ...onLane, "postgres"],
      ...["sh", "-c", serve],
    );
  const address = "postgresql://postgres:5432/";
  const query = "select count(*), inet_client_addr() = inet_server_addr() from generate_series(1, 100000)";

  it("is reached by its name by one that started before it, and by one that starts after it", async () => {
    const ask = `until PGPASSWORD=secret psql -XAtc "${query}" ${address}; do sleep 1; done`;
    await ok("run", "--detach", "--name", "early", ...onLane, "postgres", "sh", "-c", ask);
    await startServer();
    assert.equal(await ok("wait", "early"), "0");
    assert.match(await ok("logs", "early"), /^100000\|t$/m);
    const late = await ok("run", "--rm", ...onLane, "postgres", "sh", "-c", ask);
    assert.equal(late, "100000|t");
  });

  it("trusts no neighbour as it trusts itself", async () => {
    const ask = ["psql", "-XAtwc", "select 1"];
    const stranger = await aca.daemon.docker("run", "--rm", ...onLane, "postgres", ...ask, address);
    assert.notEqual(stranger.code, 0);
    assert.match(stranger.errorText, /no password supplied/);
    assert.equal(await ok("exec", "db", ...ask, "postgresql://127.0.0.1:5432/"), "1");
    await ok("rm", "--force", "early", "db");
  });

  it("refuses a share for its data directory, as its own user and as one that root becomes", async () => {
    const init = "initdb --no-sync -D /data";
    const refused = async (...args: string[]): Promise<string> => {
      const volume = ["--volume", "data:/data"];
      const { code, text, errorText } = await aca.daemon.docker(
        ...["run", "--rm", ...volume, "postgres", ...args],
      );
      assert.notEqual(code, 0);
      return text + errorText;
    };
    assert.match(
      await refused("su", "app", "-c", `PATH=${programs}/bin:$PATH ${init}`),
      /could not change permissions of directory "\/data": Operation not permitted/,
    );
    await ok("volume", "rm", "data");
    const own = await aca.daemon.docker(
      ...["run", "--rm", "--volume", "data:/data", "--user", "1000:1000", "postgres", "sh", "-c", init],
    );
    assert.notEqual(own.code, 0);
    assert.match(own.text + own.errorText, /data directory "\/data" has invalid permissions/);
    await ok("volume", "rm", "data");
  });

  it("has a share for it that is mounted as its user's alone", async () => {
    const mine = "uid=1000,gid=1000,dir_mode=0700,file_mode=0700,mfsymlinks,nobrl";
    await ok("volume", "create", "--opt", `mount_options=${mine}`, "data");
    const args = ["run", "--rm", "--volume", "data:/data", "--user", "1000:1000", "postgres", "sh", "-c"];
    await ok(...args, "initdb --no-sync --wal-segsize=1 -D /data");
    const asked = [
      "postgres -D /data -k /tmp 2> /dev/null &",
      "until psql -XAtqh /tmp -c 'create table t as select generate_series(1, 100000) as n'; do sleep 1; done",
      "psql -XAth /tmp -c 'select sum(n) from t'",
      "kill %1; wait",
    ];
    assert.equal(await ok(...args, `{\n${asked.join("\n")}\n} 2> /dev/null`), "5000050000");
    await ok("volume", "rm", "data");
  });
});
