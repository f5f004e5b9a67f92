/**
 * The criteria of ACA-004 by their numbers, over the Docker API and in what the simulated Azure was given. Other tests of
 * this directory go further into each; docs/acceptance.md has them.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { untilTrue } from "../support/until.ts";

interface Endpoint {
  readonly IPAddress: string;
  readonly Gateway: string;
  readonly MacAddress: string;
  readonly EndpointID: string;
  readonly Aliases: readonly string[];
}
interface Inspected {
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, Endpoint>> };
}
interface Network {
  readonly Name: string;
  readonly Id: string;
  readonly Driver: string;
  readonly Labels: Readonly<Record<string, string>>;
  readonly Containers: Readonly<Record<string, object>>;
}
interface Volume {
  readonly Name: string;
  readonly CreatedAt: string;
}

describe("ACA-004", () => {
  const aca = duringTests(() => AcaDaemon.start({ aca: { linger: "0s", drain_timeout: "2s" } }));
  let lane: string;
  let db: string;
  let endpoint: Endpoint;
  let volume: Volume;

  const call = async <T>(
    method: string,
    path: string,
    body?: object,
  ): Promise<{ status: number; json: T }> => {
    const { status, text } = await callApi(aca.daemon.socket, method, `/v1.51${path}`, body && { body });
    return { status, json: (text === "" ? undefined : JSON.parse(text)) as T };
  };
  const get = async <T>(path: string): Promise<T> => (await call<T>("GET", path)).json;
  const filtered = <T>(path: string, filters: object): Promise<T> =>
    get(`${path}?filters=${encodeURIComponent(JSON.stringify(filters))}`);
  const running = async (name: string, config: object): Promise<string> => {
    const body = { Image: "busybox", Cmd: ["sleep", "1000"], ...config };
    const { json } = await call<{ Id: string }>("POST", `/containers/create?name=${name}`, body);
    assert.equal((await call("POST", `/containers/${json.Id}/start`)).status, 204);
    return json.Id;
  };
  const endpointOf = async (id: string): Promise<Endpoint> => {
    const { NetworkSettings } = await get<Inspected>(`/containers/${id}/json`);
    const { lane: found } = NetworkSettings.Networks;
    assert.ok(found);
    return found;
  };
  const membersOf = async (network: string): Promise<Network["Containers"]> =>
    (await get<Network>(`/networks/${network}`)).Containers;
  const execIn = (container: string, ...command: string[]): Promise<string> =>
    aca.daemon.ok("exec", container, ...command);
  const resolves = async (name: string): Promise<boolean> =>
    (await aca.daemon.docker("exec", "asker", "nslookup", name)).code === 0;
  const templateOf = (container: string) =>
    aca.azure.app.jobs.body(`sk-${container.slice(0, 12)}`)?.properties?.template ?? {};
  /** Volumes of a job that are shares, and where they are mounted. */
  const sharesOf = (container: string): object[] => {
    const { volumes = [], containers: [main] = [] } = templateOf(container);
    return volumes.flatMap(({ name, storageType, storageName }) =>
      storageType !== "AzureFile"
        ? []
        : (main?.volumeMounts ?? [])
            .filter(({ volumeName }) => volumeName === name)
            .map(({ mountPath }) => ({ storageName, mountPath })),
    );
  };
  const shares = (): string[] => [
    ...(aca.azure.storage.account(aca.azure.config["storage_account_name"] ?? "")?.shares.keys() ?? []),
  ];

  it("1, 2: a network is a record with an ID, and its creation answers ID and warning", async () => {
    const calls = aca.azure.calls.count();
    const body = { Name: "lane", Driver: "bridge", Labels: { of: "test" } };
    const { status, json } = await call<{ Id: string }>("POST", "/networks/create", body);
    assert.equal(status, 201);
    assert.deepEqual(json, { Id: json.Id, Warning: "" });
    assert.match(json.Id, /^[0-9a-f]{64}$/);
    lane = json.Id;
    const { Name, Id, Driver, Labels } = await get<Network>("/networks/lane");
    assert.deepEqual([Name, Id, Driver, Labels], ["lane", lane, "bridge", { of: "test" }]);
    assert.equal(aca.azure.calls.count(), calls, "nothing is asked of Azure");
  });

  it("4: networks are listed by name, ID, driver, scope and label, and bridge is always there", async () => {
    const names = async (filters: object): Promise<Set<string>> =>
      new Set((await filtered<Network[]>("/networks", filters)).map(({ Name }) => Name));
    assert.deepEqual(await names({ name: ["lane"] }), new Set(["lane"]));
    assert.deepEqual(await names({ id: [lane.slice(0, 12)] }), new Set(["lane"]));
    assert.deepEqual(await names({ label: ["of=test"] }), new Set(["lane"]));
    assert.deepEqual(await names({ label: ["of=another"] }), new Set());
    assert.deepEqual(await names({ driver: ["bridge"] }), new Set(["bridge", "lane"]));
    assert.deepEqual(await names({ driver: ["overlay"] }), new Set());
    assert.ok((await names({ scope: ["local"] })).has("lane"));
    assert.ok((await names({})).has("bridge"));
  });

  it("11, 12: a volume is a share, and its creation answers as Docker does", async () => {
    const body = { Name: "Data.Set", Labels: { of: "test" } };
    const { status, json } = await call<Volume>("POST", "/volumes/create", body);
    assert.equal(status, 201);
    const { CreatedAt, ...rest } = json;
    assert.deepEqual(rest, {
      Name: "Data.Set",
      Driver: "azure-files",
      Mountpoint: "/mnt/azure/Data.Set",
      Labels: { of: "test" },
      Options: null,
      Scope: "local",
    });
    assert.ok(Date.parse(CreatedAt) <= Date.now());
    assert.match(shares().join(), /^sk-data-set-[0-9a-f]{12}$/);
    volume = json;
  });

  it("13, 14: volumes are inspected, and listed by name, driver and label", async () => {
    const told = await get<Volume>("/volumes/Data.Set");
    assert.deepEqual(told, { ...told, ...volume });
    await call("POST", "/volumes/create", { Name: "other" });
    const names = async (filters: object): Promise<Set<string>> =>
      new Set((await filtered<{ Volumes: Volume[] }>("/volumes", filters)).Volumes.map(({ Name }) => Name));
    assert.deepEqual(await names({ name: ["Data"] }), new Set(["Data.Set"]));
    assert.deepEqual(await names({ label: ["of=test"] }), new Set(["Data.Set"]));
    assert.deepEqual(await names({ driver: ["azure-files"] }), new Set(["Data.Set", "other"]));
    assert.deepEqual(await names({ driver: ["block"] }), new Set());
    assert.equal((await call("DELETE", "/volumes/other")).status, 204);
  });

  it("3, 5, 10: a container has an address of 172.18.0.0/16, which it and its network tell", async () => {
    db = await running("db", {
      HostConfig: { NetworkMode: "lane", Binds: ["Data.Set:/data"] },
      NetworkingConfig: { EndpointsConfig: { lane: { Aliases: ["postgres"] } } },
    });
    endpoint = await endpointOf(db);
    const { IPAddress, Gateway, MacAddress, EndpointID, Aliases } = endpoint;
    assert.deepEqual([IPAddress, Gateway, Aliases], ["172.18.0.2", "172.18.0.1", ["postgres"]]);
    assert.match(MacAddress, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    assert.match(EndpointID, /^[0-9a-f]{64}$/);
    assert.deepEqual(await membersOf("lane"), {
      [db]: { Name: "db", EndpointID, MacAddress, IPv4Address: `${IPAddress}/24`, IPv6Address: "" },
    });
  });

  it("16, 20, 21: the job mounts the volume's share at its path, by a storage of account, share and mode", () => {
    const [share = ""] = shares();
    assert.deepEqual(sharesOf(db), [{ storageName: share, mountPath: "/data" }]);
    const [storage] = aca.azure.calls
      .all("app.ManagedEnvironmentsStorages_CreateOrUpdate")
      .map(({ input }) => JSON.stringify(input))
      .filter((input) => input.includes(share));
    for (const part of [
      `"accountName":"${aca.azure.config["storage_account_name"]}"`,
      `"shareName":"${share}"`,
      `"accessMode":"ReadWrite"`,
    ]) {
      assert.ok(storage?.includes(part), `${part} in ${storage}`);
    }
  });

  it("17, 18: VolumesFrom is the same share at the same path, and an anonymous volume is none", async () => {
    const made = shares();
    const taker = await running("taker", {
      Volumes: { "/scratch": {} },
      HostConfig: { VolumesFrom: ["db"] },
    });
    assert.deepEqual(sharesOf(taker), sharesOf(db));
    await execIn("taker", "touch", "/scratch/own");
    assert.deepEqual(shares(), made);
  });

  it("19: jobs mount a share at the same time", async () => {
    await execIn("db", "sh", "-c", "echo handed > /data/file");
    assert.equal(await execIn("taker", "cat", "/data/file"), "handed");
    await execIn("taker", "sh", "-c", "echo back >> /data/file");
    assert.equal(await execIn("db", "cat", "/data/file"), "handed\nback");
  });

  it("6: a container's name and aliases are known to the others on its network", async () => {
    await running("asker", { HostConfig: { NetworkMode: "lane" } });
    for (const name of ["db", "postgres", db.slice(0, 12)]) {
      assert.ok(await resolves(name), name);
    }
    assert.ok(!(await resolves("taker")), "which is on another network");
  });

  it("8: a network stays while containers are on it", async () => {
    const { status, json } = await call("DELETE", "/networks/lane");
    assert.deepEqual([status, json], [403, { message: "network has active endpoints" }]);
  });

  it("7: a disconnection takes membership, address and names away", async () => {
    assert.equal((await call("POST", "/networks/lane/disconnect", { Container: "db" })).status, 200);
    assert.ok(!(db in (await membersOf("lane"))));
    const { NetworkSettings } = await get<Inspected>(`/containers/${db}/json`);
    assert.deepEqual(Object.keys(NetworkSettings.Networks), []);
    await untilTrue(async () => !(await resolves("postgres")) && !(await resolves("db")));
    assert.equal((await call("POST", "/networks/lane/connect", { Container: "taker" })).status, 200);
    assert.equal((await endpointOf("taker")).IPAddress, endpoint.IPAddress, "it is had again");
  });

  it("9: a prune removes what has no containers and the labels, and answers IDs", async () => {
    const body = { Name: "spare", Labels: { is: "spare" } };
    const { Id } = (await call<{ Id: string }>("POST", "/networks/create", body)).json;
    const prune = async (filters: object): Promise<readonly string[]> => {
      const query = `?filters=${encodeURIComponent(JSON.stringify(filters))}`;
      const { json } = await call<{ NetworksDeleted: string[] | null }>("POST", `/networks/prune${query}`);
      return json.NetworksDeleted ?? [];
    };
    assert.deepEqual(await prune({ label: ["is=another"] }), []);
    assert.deepEqual(await prune({ label: ["of=test"] }), [], "containers are on it");
    assert.deepEqual(await prune({ label: ["is=spare"] }), [Id]);
  });

  it("15: a volume that a running container uses goes by force, and its share with it", async () => {
    assert.equal((await call("POST", "/volumes/create", { Name: "forced" })).status, 201);
    const before = shares();
    await running("holder", { HostConfig: { Binds: ["forced:/v"] } });
    assert.equal((await call("DELETE", "/volumes/forced")).status, 409);
    assert.equal((await call("DELETE", "/volumes/forced?force=1")).status, 204);
    assert.equal(shares().length, before.length - 1);
    assert.equal((await call("GET", "/volumes/forced")).status, 404);
    assert.equal((await call("DELETE", "/containers/holder?force=1")).status, 204);
  });

  it("15: a volume that a running container uses stays, and goes with its share afterwards", async () => {
    const { status, json } = await call("DELETE", "/volumes/Data.Set");
    assert.deepEqual([status, json], [409, { message: "volume is in use" }]);
    for (const name of ["db", "taker", "asker"]) {
      assert.equal((await call("DELETE", `/containers/${name}?force=1&v=1`)).status, 204);
    }
    assert.equal((await call("DELETE", "/volumes/Data.Set")).status, 204);
    assert.deepEqual(shares(), []);
    assert.equal((await call("GET", "/volumes/Data.Set")).status, 404);
    assert.equal((await call("DELETE", "/networks/lane")).status, 204);
  });
});
