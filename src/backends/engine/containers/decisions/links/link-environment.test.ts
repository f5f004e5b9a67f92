import assert from "node:assert/strict";
import { test } from "node:test";

import { linkEnvironment } from "./link-environment.ts";

const linked = {
  alias: "data-base",
  name: "/web/data-base",
  address: "172.17.0.2",
  env: [],
  exposedPorts: [],
};

test("a link tells its name and the other's environment, but for what images say", () => {
  assert.deepEqual(
    [...linkEnvironment({ ...linked, env: ["PASSWORD=a=b", "PATH=/bin", "HOME=/root", "BARE"] })],
    ["DATA_BASE_NAME=/web/data-base", "DATA_BASE_ENV_PASSWORD=a=b"],
  );
});

test("a port is told by its address, its number and its protocol, TCP before others", () => {
  assert.deepEqual(
    [...linkEnvironment({ ...linked, alias: "db", exposedPorts: ["53/udp", "5432/tcp"] })],
    [
      "DB_PORT=tcp://172.17.0.2:5432",
      "DB_PORT_5432_TCP=tcp://172.17.0.2:5432",
      "DB_PORT_5432_TCP_ADDR=172.17.0.2",
      "DB_PORT_5432_TCP_PORT=5432",
      "DB_PORT_5432_TCP_PROTO=tcp",
      "DB_PORT_53_UDP=udp://172.17.0.2:53",
      "DB_PORT_53_UDP_ADDR=172.17.0.2",
      "DB_PORT_53_UDP_PORT=53",
      "DB_PORT_53_UDP_PROTO=udp",
      "DB_NAME=/web/data-base",
    ],
  );
});

test("ports that follow each other are told as a range, too", () => {
  const told = linkEnvironment({
    ...linked,
    alias: "db",
    exposedPorts: ["82/tcp", "80/tcp", "81/tcp", "90/tcp"],
  });
  assert.deepEqual(
    [...told].filter((entry) => /_(START|END)=/.test(entry)),
    [
      "DB_PORT_80_TCP_START=tcp://172.17.0.2:80",
      "DB_PORT_80_TCP_PORT_START=80",
      "DB_PORT_80_TCP_END=tcp://172.17.0.2:82",
      "DB_PORT_80_TCP_PORT_END=82",
    ],
  );
});
