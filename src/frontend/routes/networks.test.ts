import assert from "node:assert/strict";
import { test } from "node:test";

import { toConnectError } from "../../common/connect-error.ts";
import { forbidden } from "../../common/errors.ts";
import {
  type ConnectNetworkRequest,
  type CreateNetworkRequest,
  type DisconnectNetworkRequest,
  NetworkService,
} from "../../gen/sockerless/backend/v1/network_pb.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { serveApi } from "../../../test/support/docker-api.ts";
import { assertDescribed } from "../../../test/support/swagger.ts";

test("a network is created from the body, as compose writes it", async (t) => {
  let created: CreateNetworkRequest | undefined;
  const api = await serveApi(t, (router) =>
    router.service(NetworkService, {
      createNetwork: (request) => {
        created = request;
        return { id: "ab".repeat(32) };
      },
    }),
  );
  const response = await api.call("POST", "/networks/create", {
    body: {
      Name: "shop_default",
      CheckDuplicate: true,
      Driver: "bridge",
      EnableIPv6: null,
      IPAM: {
        Driver: "default",
        Config: [{ Subnet: "10.0.0.0/24", AuxiliaryAddresses: { nas: "10.0.0.9" } }],
      },
      Internal: true,
      Labels: { project: "shop" },
      Options: null,
    },
  });
  assert.equal(response.status, 201);
  assertDescribed("post", "/networks/create", 201, response.json());
  assert.equal(created?.name, "shop_default");
  assert.equal(created.internal, true);
  assert.deepEqual(created.labels, { project: "shop" });
  assert.equal(created.pools[0]?.subnet, "10.0.0.0/24");
  assert.deepEqual(created.pools[0]?.auxiliaryAddresses, { nas: "10.0.0.9" });
});

test("a network is asked for with its scope and the source of its settings, and from API 1.48 on without IPv4", async (t) => {
  const asked: CreateNetworkRequest[] = [];
  const api = await serveApi(t, (router) =>
    router.service(NetworkService, {
      createNetwork: (request) => {
        asked.push(request);
        return { id: "ab".repeat(32) };
      },
    }),
  );
  const made = async (version: string, body: object) => {
    const { status } = await api.call("POST", `/v${version}/networks/create`, {
      body: { Name: "n", ...body },
    });
    assert.equal(status, 201);
    const { scope, ingress, configOnly, configFrom, enableIpv4 } = asked.at(-1) ?? {};
    return [scope, ingress, configOnly, configFrom, enableIpv4];
  };
  assert.deepEqual(await made("1.51", {}), ["", false, false, "", undefined]);
  const operator = { Scope: "global", Ingress: true, EnableIPv4: false };
  assert.deepEqual(await made("1.48", operator), ["global", true, false, "", false]);
  assert.deepEqual(await made("1.47", operator), ["global", true, false, "", undefined]);
  const config = { ConfigOnly: true, ConfigFrom: { Network: "other" } };
  assert.deepEqual(await made("1.51", config), ["", false, true, "other", undefined]);
});

test("containers are connected and disconnected as the body says", async (t) => {
  let connected: ConnectNetworkRequest | undefined;
  let disconnected: DisconnectNetworkRequest | undefined;
  const api = await serveApi(t, (router) =>
    router.service(NetworkService, {
      connectNetwork: (request) => {
        connected = request;
        return {};
      },
      disconnectNetwork: (request) => {
        disconnected = request;
        return {};
      },
      removeNetwork: () => {
        throw toConnectError(forbidden("bridge is a pre-defined network and cannot be removed"));
      },
    }),
  );
  const endpoint = { Aliases: ["db"], IPAMConfig: { IPv4Address: "10.0.0.7" } };
  const body = { Container: "web", EndpointConfig: endpoint };
  assert.equal((await api.call("POST", "/networks/shop/connect", { body })).status, 200);
  assert.deepEqual([connected?.network, connected?.container], ["shop", "web"]);
  assert.deepEqual([connected?.endpoint?.aliases, connected?.endpoint?.ipv4Address], [["db"], "10.0.0.7"]);
  const leaving = { Container: "web", Force: true };
  assert.equal((await api.call("POST", "/networks/shop/disconnect", { body: leaving })).status, 200);
  assert.deepEqual([disconnected?.container, disconnected?.force], ["web", true]);
  assert.equal((await api.call("DELETE", "/networks/bridge")).status, 403);
});

for (const [backend, told] of [
  ["local", "shop"],
  ["ecs", "shop"],
  ["aca", "5".repeat(64)],
] as const) {
  test(`a prune of networks tells what was removed as ${backend} does`, async (t) => {
    const api = await serveApi(t, (router) => {
      router.service(SystemService, { getCapabilities: () => ({ backend }) });
      router.service(NetworkService, {
        listNetworks: () => ({ networks: [{ name: "shop", id: "5".repeat(64) }] }),
        pruneNetworks: () => ({ removed: ["shop"] }),
      });
    });
    const pruned = await api.call("POST", "/networks/prune");
    assertDescribed("post", "/networks/prune", 200, pruned.json());
    assert.deepEqual(pruned.json(), { NetworksDeleted: [told] });
  });
}
