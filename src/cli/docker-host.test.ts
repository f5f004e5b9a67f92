import assert from "node:assert/strict";
import { hostname } from "node:os";
import { describe, it } from "node:test";

import { dockerHostLine } from "./docker-host.ts";

describe("the line to paste", () => {
  it("names a socket", () => {
    assert.equal(dockerHostLine("unix:///run/s.sock"), "export DOCKER_HOST=unix:///run/s.sock");
  });

  it("makes clients use TLS over TCP", () => {
    assert.equal(
      dockerHostLine("tcp://10.0.0.1:2376"),
      "export DOCKER_HOST=tcp://10.0.0.1:2376 DOCKER_TLS_VERIFY=1",
    );
  });

  it("names this machine for a listener on every address", () => {
    for (const address of ["tcp://0.0.0.0:2376", "tcp://[::]:2376", "tcp://:2376"]) {
      assert.equal(
        dockerHostLine(address),
        `export DOCKER_HOST=tcp://${hostname()}:2376 DOCKER_TLS_VERIFY=1`,
      );
    }
  });
});
