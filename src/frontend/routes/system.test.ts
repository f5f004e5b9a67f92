import assert from "node:assert/strict";
import { promises } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";

import { toConnectError } from "../../common/connect-error.ts";
import { unauthorized } from "../../common/errors.ts";
import { createLogger } from "../../common/logger.ts";
import { GetInfoResponseSchema, SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { serveApi } from "../../../test/support/docker-api.ts";
import { until } from "../../../test/support/until.ts";
import { assertDescribed } from "../../../test/support/swagger.ts";

const info = create(GetInfoResponseSchema, {
  id: "7a1b",
  name: "machine",
  backend: "local",
  version: "1.2.3",
  containersRunning: 2,
  containersStopped: 1,
  images: 4,
  storageDriver: "overlay2",
  driverStatus: [{ key: "Supports d_type", value: "true" }],
  rootDir: "/var/lib/sockerless/local",
  kernelVersion: "6.1",
  operatingSystem: "Debian",
  osType: "linux",
  architecture: "x86_64",
  ncpu: 2,
  memTotal: 25_276_502_016n,
  cgroupDriver: "cgroupfs",
  cgroupVersion: "2",
  cgroupControllers: ["cpu", "cpuset", "memory", "pids"],
  runtimes: [{ name: "runc", path: "/usr/sbin/runc", version: "1.1.5", commit: "v1.1.5-0-gf19387a6" }],
  defaultRuntime: "runc",
  securityOptions: ["name=seccomp,profile=builtin"],
  loggingDriver: "json-file",
  logDrivers: ["json-file", "none"],
  volumeDrivers: ["local"],
  networkDrivers: ["bridge", "host", "null"],
  now: { seconds: 1_700_000_000n, nanos: 0 },
  components: [{ name: "runc", version: "1.1.5" }],
  ipv4Forwarding: true,
  defaultAddressPools: [{ base: "172.17.0.0/16", size: 16 }],
  insecureRegistries: ["192.168.1.0/24", "reg.example.com:5000"],
});

test("a ping is answered without a backend, with the headers that clients negotiate by", async (t) => {
  const api = await serveApi(t, () => {});
  for (const method of ["GET", "HEAD"]) {
    const response = await api.call(method, "/_ping");
    assert.equal(response.status, 200);
    assert.equal(response.text, method === "GET" ? "OK" : "");
    assert.equal(response.headers["api-version"], "1.51");
    assert.equal(response.headers["docker-experimental"], "false");
    assert.equal(response.headers["ostype"], "linux");
    assert.equal(response.headers["builder-version"], "1");
    assert.equal(response.headers["swarm"], "inactive");
    assert.equal(response.headers["server"], "Sockerless/1.2.3 (linux)");
    assert.match(response.headers["content-type"] ?? "", /^text\/plain/);
    assert.match(response.headers["cache-control"] ?? "", /no-store/);
  }
});

test("info is as described, and adds up", async (t) => {
  const api = await serveApi(t, (router) => router.service(SystemService, { getInfo: () => info }));
  const response = await api.call("GET", "/info");
  assertDescribed("get", "/info", 200, response.json(), { undescribed: ["CDISpecDirs"] });
  const body = response.json() as Record<string, unknown>;
  assert.equal(body["Containers"], 3);
  assert.equal(body["MemTotal"], 25_276_502_016);
  assert.equal(body["ServerVersion"], "28.5.2");
  assert.deepEqual(body["InitCommit"], { ID: "1.2.3" });
  assert.ok((body["Labels"] as string[]).includes("sockerless.version=1.2.3"));
  assert.equal((body["Swarm"] as Record<string, unknown>)["LocalNodeState"], "inactive");
  const old = (await api.call("GET", "/v1.24/info")).json() as Record<string, unknown>;
  assert.deepEqual(old["SecurityOptions"], ["seccomp"]);
  assert.equal(old["BridgeNfIptables"], false);
});

test("the version is moby's, and sockerless is a component with its own", async (t) => {
  const api = await serveApi(t, (router) => router.service(SystemService, { getInfo: () => info }));
  const response = await api.call("GET", "/version");
  assertDescribed("get", "/version", 200, response.json());
  const body = response.json() as Record<string, unknown>;
  assert.equal(body["ApiVersion"], "1.51");
  assert.equal(body["MinAPIVersion"], "1.24");
  assert.equal(body["Arch"], "amd64");
  assert.equal(body["Version"], "28.5.2");
  const [engine] = body["Components"] as { readonly Details: Readonly<Record<string, string>> }[];
  assert.deepEqual([body["GoVersion"], engine?.Details["GoVersion"]], ["N/A", "N/A"]);
  assert.match((body["Platform"] as { readonly Name: string }).Name, /^Sockerless 1\.2\.3 /);
  assert.deepEqual(
    (body["Components"] as { readonly Name: string; readonly Version: string }[]).map(
      ({ Name, Version }) => `${Name} ${Version}`,
    ),
    ["Engine 28.5.2", "sockerless 1.2.3", "runc 1.1.5"],
  );
});

test("credentials are checked by the backend, whatever the content type", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(SystemService, {
      authenticate: ({ auth }) => {
        if (auth?.password !== "right") {
          throw toConnectError(unauthorized("incorrect username or password"));
        }
        return { status: "Login Succeeded" };
      },
    }),
  );
  const headers = { "Content-Type": "text/plain" };
  const right = await api.call("POST", "/auth", { body: { username: "me", password: "right" }, headers });
  assert.deepEqual(right.json(), { IdentityToken: "", Status: "Login Succeeded" });
  const wrong = await api.call("POST", "/auth", { body: { username: "me", password: "wrong" } });
  assert.equal(wrong.status, 401);
});

test("a swarm is refused as dockerd refuses it where there is none", async (t) => {
  const api = await serveApi(t, () => {});
  for (const [method, path] of [
    ["GET", "/swarm"],
    ["GET", "/nodes"],
    ["GET", "/services/x"],
    ["POST", "/services/create"],
    ["DELETE", "/secrets/x"],
    ["GET", "/tasks"],
    ["GET", "/configs"],
  ] as const) {
    const response = await api.call(method, path);
    assert.equal(response.status, 503, path);
    assert.match(response.text, /^\{"message":"This node is not a swarm manager\./);
  }
  for (const path of ["/swarm/init", "/swarm/join"]) {
    const response = await api.call("POST", path, { body: {} });
    assert.equal(response.status, 503);
    assert.deepEqual(response.json(), { message: "sockerless takes part in no swarm" });
  }
  assert.deepEqual((await api.call("POST", "/swarm/leave")).json(), {
    message: "This node is not part of a swarm",
  });
});

test("a build says what to do instead", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(SystemService, { getCapabilities: () => ({ backend: "local" }) }),
  );
  const upgrade = { Connection: "Upgrade", Upgrade: "h2c" };
  for (const [path, headers] of [
    ["/build", {}],
    ["/session", upgrade],
    ["/grpc", upgrade],
  ] as const) {
    const response = await api.call("POST", path, { body: "tar", headers });
    assert.equal(response.status, 501);
    assert.match(response.text, /is not implemented by backend \\"local\\"; build the image elsewhere/);
  }
});

test("there are no plugins", async (t) => {
  const api = await serveApi(t, () => {});
  assert.deepEqual((await api.call("GET", "/plugins")).json(), []);
  for (const [filters, message] of [
    ["x", "invalid filter"],
    ['{"nonsense":1}', "invalid filter"],
    ['{"nonsense":["x"]}', "invalid filter 'nonsense'"],
  ] as const) {
    const refused = await api.call("GET", `/plugins?filters=${encodeURIComponent(filters)}`);
    assert.deepEqual([refused.status, refused.json()], [400, { message }]);
  }
});

test("info tells the insecure registries, and the commits that are known", async (t) => {
  const api = await serveApi(t, (router) => router.service(SystemService, { getInfo: () => info }));
  const told = (await api.call("GET", "/info")).json() as Record<string, unknown>;
  assert.deepEqual(told["RegistryConfig"], {
    InsecureRegistryCIDRs: ["192.168.1.0/24", "::1/128", "127.0.0.0/8"],
    IndexConfigs: {
      "docker.io": { Name: "docker.io", Mirrors: [], Secure: true, Official: true },
      "reg.example.com:5000": { Name: "reg.example.com:5000", Mirrors: [], Secure: false, Official: false },
    },
    Mirrors: null,
  });
  const commits = [told["RuncCommit"], told["InitCommit"], told["ContainerdCommit"]];
  assert.deepEqual(commits, [{ ID: "v1.1.5-0-gf19387a6" }, { ID: "1.2.3" }, { ID: "N/A" }]);
  assert.equal("Containerd" in told, false);
});

test("info tells of prepared tasks where there can be any, as a label", async (t) => {
  for (const [pool, label] of [
    ["", undefined],
    ["off", "sockerless.pool=off"],
  ] as const) {
    const api = await serveApi(t, (router) =>
      router.service(SystemService, { getInfo: () => ({ ...info, pool }) }),
    );
    const told = (await api.call("GET", "/info")).json() as { readonly Labels: readonly string[] };
    assert.equal(
      told.Labels.find((each) => each.startsWith("sockerless.pool")),
      label,
    );
  }
});

test("info says whether the frontend logs everything, and what it has open", async (t) => {
  for (const level of ["info", "debug"] as const) {
    const logger = createLogger({ level, process: "test", destination: { write: () => {} } });
    const system = (router: ConnectRouter) => router.service(SystemService, { getInfo: () => info });
    const api = await serveApi(t, system, undefined, logger);
    const told = (await api.call("GET", "/info")).json() as Record<string, unknown>;
    assert.equal(told["Debug"], level === "debug");
    assert.ok(Number(told["NFd"]) > 2);
    assert.ok(Number(told["NGoroutines"]) > 0);
  }
});

test("open files are counted once for all who ask meanwhile", async (t) => {
  const read = t.mock.method(promises, "readdir");
  syncBuiltinESMExports();
  t.after(syncBuiltinESMExports);
  const answer = Promise.withResolvers<void>();
  let asked = 0;
  const getInfo = async () => {
    asked += 1;
    await answer.promise;
    return info;
  };
  const counts = Promise.withResolvers<string[]>();
  read.mock.mockImplementation((async () => await counts.promise) as unknown as typeof promises.readdir);
  const api = await serveApi(t, (router) => router.service(SystemService, { getInfo }));
  const all = Array.from({ length: 10 }, () => api.call("GET", "/info"));
  await until(() => asked === all.length || undefined);
  answer.resolve();
  await until(() => read.mock.callCount() > 0 || undefined);
  counts.resolve(["0", "1", "2"]);
  for (const { NFd } of (await Promise.all(all)).map((each) => each.json() as { readonly NFd: number })) {
    assert.equal(NFd, 3);
  }
  assert.equal(read.mock.callCount(), 1);
  read.mock.restore();
});
