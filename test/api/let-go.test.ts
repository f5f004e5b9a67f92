/**
 * All that an answered `stop`, `rm`, `disconnect`, `network rm` or `volume rm` has let go: the next one to want it has it
 * without a pause. Two rounds each, 200 with SOCKERLESS_SOAK=1, and ten of pods, which take seconds.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { backendUnderTest, onlyOn } from "../support/backend-under-test.ts";
import { type ApiResponse, callApi } from "../support/call-api.ts";
import { freePort } from "../support/free-port.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { isSoak } from "../support/soak.ts";

const { daemon, ok } = withDaemon();
const whole = backendUnderTest() === "kubernetes" ? 10 : 200;
const rounds = isSoak ? whole : 2;
const subnet = "10.213.77.0/24";
const address = "10.213.77.9";

/** Calls the API; throws where it answers an error. */
async function call(method: string, path: string, body?: unknown): Promise<ApiResponse> {
  const answer = await callApi(daemon.socket, method, path, body === undefined ? {} : { body });
  assert.ok(answer.status < 400, `${method} ${path}: ${answer.status} ${answer.text}`);
  return answer;
}

/** Makes and starts a container that sleeps. @returns its ID */
async function start(name: string, config: object = {}): Promise<string> {
  const body = { Image: "busybox", Cmd: ["sleep", "1000"], StopSignal: "KILL", ...config };
  const { Id } = (await call("POST", `/containers/create?name=${name}`, body)).json() as { Id: string };
  await call("POST", `/containers/${Id}/start`);
  return Id;
}

const remove = (container: string) => call("DELETE", `/containers/${container}?force=1&v=1`);
const stop = (container: string) => call("POST", `/containers/${container}/stop?t=0`);

/** Settings of a container that is to have an address, or a name, on a network. */
function on(network: string, endpoint: object): object {
  return {
    HostConfig: { NetworkMode: network },
    NetworkingConfig: { EndpointsConfig: { [network]: endpoint } },
  };
}

const withAddress = (network: string) =>
  on(network, { IPAMConfig: { IPv4Address: address }, MacAddress: "02:42:0a:d5:4d:09" });

async function repeat(round: (number: number) => Promise<void>): Promise<void> {
  for (let number = 0; number < rounds; number += 1) {
    await round(number);
  }
}

describe("an address, a MAC address and a name", () => {
  before(() => ok("network", "create", "--subnet", subnet, "fixed"));
  after(() => ok("network", "rm", "fixed"));

  test("are free once a removal is answered", async () => {
    await repeat(async () => {
      await start("same", withAddress("fixed"));
      await remove("same");
    });
  });

  test("are another's once a stop is answered", async () => {
    await start("one", withAddress("fixed"));
    await stop("one");
    await start("other", withAddress("fixed"));
    await repeat(async (number) => {
      const [running, stopped] = number % 2 === 0 ? ["other", "one"] : ["one", "other"];
      await stop(running);
      await call("POST", `/containers/${stopped}/start`);
    });
    await Promise.all([remove("one"), remove("other")]);
  });

  test("are another's once a disconnection is answered", async () => {
    await Promise.all([start("one"), start("other")]);
    await repeat(async (number) => {
      const Container = number % 2 === 0 ? "one" : "other";
      const EndpointConfig = { IPAMConfig: { IPv4Address: address } };
      await call("POST", "/networks/fixed/connect", { Container, EndpointConfig });
      await call("POST", "/networks/fixed/disconnect", { Container });
    });
    await Promise.all([remove("one"), remove("other")]);
  });

  test("are refused while their container runs", async () => {
    await start("one", withAddress("fixed"));
    await assert.rejects(start("other", withAddress("fixed")), /Address already in use/);
    await Promise.all([remove("one"), remove("other")]);
  });
});

test("the last address of a network is free once a removal is answered", async () => {
  await ok("network", "create", "--subnet", "10.213.78.0/30", "small");
  await repeat(async () => {
    await start("only", on("small", {}));
    await remove("only");
  });
  await ok("network", "rm", "small");
});

test("a network's name and subnet are free once its removal is answered, after that of its last container", async () => {
  await repeat(async () => {
    await ok("network", "create", "--subnet", subnet, "again");
    await start("member", withAddress("again"));
    await remove("member");
    await call("DELETE", "/networks/again");
  });
});

test("a volume can be removed once its container's removal is answered, and made anew without what was in it", async () => {
  await repeat(async () => {
    await call("POST", "/volumes/create", { Name: "kept" });
    const Cmd = ["sh", "-c", 'test -z "$(ls -A /data)" && touch /data/file && sleep 1000'];
    const id = await start("user", { Cmd, HostConfig: { Binds: ["kept:/data"] } });
    await remove(id);
    await call("DELETE", "/volumes/kept");
  });
});

test("a port is free once a removal or a stop is answered", async () => {
  const HostPort = String(await freePort());
  const publishing = { HostConfig: { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort }] } } };
  await repeat(async (number) => {
    await start("serving", publishing);
    if (number % 2 === 0) {
      await stop("serving");
      await start("next", publishing);
      await remove("next");
    }
    await remove("serving");
  });
});

test("an alias is the next one's once a removal is answered", async () => {
  await ok("network", "create", "aliased");
  await start("peer", on("aliased", {}));
  const addressOf = async (host: string): Promise<string | undefined> => {
    const { text } = await daemon.docker("exec", "peer", "nslookup", "-type=a", `${host}.`);
    return /^Name:.*\nAddress: (.+)$/m.exec(text)?.[1];
  };
  await repeat(async (number) => {
    const host = `web-${number}`;
    await start(host, on("aliased", { Aliases: ["web"] }));
    const addresses = await Promise.all([host, "web"].map(addressOf));
    assert.ok(addresses[0] !== undefined && addresses[0] === addresses[1], addresses.join());
    await remove(host);
    assert.equal(await addressOf("web"), undefined);
  });
  await remove("peer");
  await ok("network", "rm", "aliased");
});

describe("a volume that one container alone may have", {
  skip: onlyOn("local", "the volumes of clouds are shared"),
}, () => {
  test("is the next one's once a removal is answered", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=64m", "own");
    await repeat(async () => {
      const id = await start("owner", { HostConfig: { Binds: ["own:/data"] } });
      await remove(id);
    });
    await ok("volume", "rm", "own");
  });
});
