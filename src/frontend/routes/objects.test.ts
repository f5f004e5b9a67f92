import assert from "node:assert/strict";
import { test } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";

import { toConnectError } from "../../common/connect-error.ts";
import { conflict } from "../../common/errors.ts";
import {
  EventsService,
  type SubscribeEventsResponseSchema,
} from "../../gen/sockerless/backend/v1/events_pb.ts";
import { NetworkService } from "../../gen/sockerless/backend/v1/network_pb.ts";
import { type CreateVolumeRequest, VolumeService } from "../../gen/sockerless/backend/v1/volume_pb.ts";
import { serveApi } from "../../../test/support/docker-api.ts";
import { assertDescribed } from "../../../test/support/swagger.ts";

type EventMessages = AsyncGenerator<MessageInitShape<typeof SubscribeEventsResponseSchema>>;

const id = "ef".repeat(32);
const network = {
  id,
  name: "bridge",
  scope: "local",
  driver: "bridge",
  ipamDriver: "default",
  pools: [{ subnet: "172.17.0.0/16", gateway: "172.17.0.1" }],
  containers: { [id]: { name: "web", ipv4Address: "172.17.0.2/16" } },
};

test("networks are as described; a list tells their containers to old clients only", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(NetworkService, {
      listNetworks: () => ({ networks: [network] }),
      inspectNetwork: () => ({ network }),
    }),
  );
  const list = await api.call("GET", "/networks");
  assertDescribed("get", "/networks", 200, list.json());
  assert.deepEqual((list.json() as Record<string, unknown>[])[0]?.["Containers"], {});
  const old = (await api.call("GET", "/v1.27/networks/")).json() as Record<string, unknown>[];
  assert.deepEqual(Object.keys(old[0]?.["Containers"] as object), [id]);
  const inspect = await api.call("GET", "/networks/bridge?verbose=false");
  assertDescribed("get", "/networks/{id}", 200, inspect.json());
  assert.equal((await api.call("GET", "/networks/bridge?scope=swarm")).status, 404);
  assert.equal((await api.call("GET", "/networks/bridge?verbose=perhaps")).status, 400);
});

test("volumes are created from the body, listed and removed", async (t) => {
  let created: CreateVolumeRequest | undefined;
  const volume = { name: "v", driver: "local", mountpoint: "/m", scope: "local" };
  const api = await serveApi(t, (router) =>
    router.service(VolumeService, {
      createVolume: (request) => {
        created = request;
        return { volume: { ...volume, created: { seconds: 1_700_000_000n, nanos: 5 } } };
      },
      listVolumes: () => ({ volumes: [volume] }),
      removeVolume: ({ name, force }) => {
        if (!force) {
          throw toConnectError(conflict(`remove ${name}: volume is in use - [${id}]`));
        }
        return {};
      },
    }),
  );
  const body = { Name: "v", DriverOpts: { size: "1m" }, Labels: { a: "b" } };
  const response = await api.call("POST", "/volumes/create", { body });
  assert.equal(response.status, 201);
  assertDescribed("post", "/volumes/create", 201, response.json());
  assert.equal((response.json() as Record<string, unknown>)["CreatedAt"], "2023-11-14T22:13:20Z");
  assert.deepEqual(created?.driverOpts, { size: "1m" });
  const list = await api.call("GET", "/volumes");
  assertDescribed("get", "/volumes", 200, list.json());
  assert.equal((await api.call("DELETE", "/volumes/v")).status, 409);
  assert.equal((await api.call("DELETE", "/volumes/v?force=1")).status, 204);
});

test("events are one line each, until the end that was asked for", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(EventsService, {
      async *subscribeEvents({ sinceUnixNs, untilUnixNs, filters }): EventMessages {
        assert.equal(sinceUnixNs, 1_700_000_000_500_000_000n);
        assert.equal(untilUnixNs, 1_700_000_001_000_000_000n);
        assert.deepEqual(filters["type"]?.values, ["container", "image"]);
        yield { message: { case: "accepted", value: {} } };
        const timeUnixNs = 1_700_000_000_600_000_001n;
        const attributes = { image: "nginx", name: "web" };
        yield {
          message: {
            case: "event",
            value: { type: "container", action: "start", actorId: id, attributes, timeUnixNs },
          },
        };
        yield {
          message: { case: "event", value: { type: "image", action: "create", actorId: "i", timeUnixNs } },
        };
        yield { message: { case: "event", value: { type: "network", action: "connect", timeUnixNs } } };
        yield { message: { case: "end", value: {} } };
      },
    }),
  );
  const filters = encodeURIComponent('{"type":{"container":true,"image":true}}');
  const query = `since=1700000000.5&until=1700000001&filters=${filters}`;
  const response = await api.call("GET", `/v1.45/events?${query}`);
  assert.equal(response.headers["content-type"], "application/json");
  const lines = response.text.trimEnd().split("\n");
  assert.equal(lines.length, 2);
  assert.match(lines[0] ?? "", /"timeNano":1700000000600000001/);
  const event = JSON.parse(lines[0] ?? "") as Record<string, unknown>;
  assertDescribed("get", "/events", 200, event, { undescribed: ["status", "id", "from"] });
  assert.deepEqual(
    { status: event["status"], id: event["id"], from: event["from"], time: event["time"] },
    { status: "start", id, from: "nginx", time: 1_700_000_000 },
  );
  assert.equal("status" in (JSON.parse(lines[1] ?? "") as object), false);
  assert.equal((await api.call("GET", `/events?${query}`)).text.trimEnd().split("\n").length, 3);
});

test("times of events that make no sense are refused", async (t) => {
  const api = await serveApi(t, () => {});
  assert.equal((await api.call("GET", "/events?since=yesterday")).status, 400);
  assert.deepEqual((await api.call("GET", "/events?since=20&until=10")).json(), {
    message: "`since` time (20) cannot be after `until` time (10)",
  });
});

test("filters are understood in both of their forms, and nothing else is", async (t) => {
  const seen: unknown[] = [];
  const api = await serveApi(t, (router) =>
    router.service(VolumeService, {
      listVolumes: ({ filters }) => {
        seen.push(filters["label"]?.values);
        return {};
      },
    }),
  );
  const list = (filters: string): Promise<{ readonly status: number }> =>
    api.call("GET", `/volumes?filters=${encodeURIComponent(filters)}`);
  await list('{"label":["a","b","a"]}');
  await list('{"label":{"a":true,"b":false}}');
  await list("{}");
  assert.deepEqual(seen, [["a", "b"], ["a", "b"], undefined]);
  for (const wrong of ["{", "[]", '"label"', '{"label":"a"}', '{"label":[1]}', '{"label":{"a":"b"}}']) {
    assert.equal((await list(wrong)).status, 400, wrong);
  }
});
