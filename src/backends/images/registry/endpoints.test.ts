import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { registryEndpoints } from "./endpoints.ts";

const addresses = (domain: string, insecure: readonly string[] = []) =>
  registryEndpoints(domain, insecure).map(
    ({ url, insecure: unchecked }) => `${url.origin}${unchecked ? " unchecked" : ""}`,
  );

describe("a registry", () => {
  it("is requested with TLS and a verified certificate", () => {
    assert.deepEqual(addresses("ghcr.io"), ["https://ghcr.io"]);
    assert.deepEqual(addresses("reg.example.com:5000"), ["https://reg.example.com:5000"]);
    assert.deepEqual(addresses("docker.io"), ["https://registry-1.docker.io"]);
  });

  it("on this machine may be without TLS", () => {
    for (const host of ["localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"]) {
      assert.deepEqual(addresses(host), [`https://${host} unchecked`, `http://${host} unchecked`]);
    }
  });

  it("that is configured as insecure may be without TLS", () => {
    assert.deepEqual(addresses("reg:5000", ["reg:5000"]), [
      "https://reg:5000 unchecked",
      "http://reg:5000 unchecked",
    ]);
    assert.equal(addresses("reg:5000", ["reg"]).length, 2);
    assert.equal(addresses("reg:5001", ["reg:5000"]).length, 1);
    assert.equal(addresses("192.168.1.7:5000", ["192.168.1.0/24"]).length, 2);
    assert.equal(addresses("192.168.2.7:5000", ["192.168.1.0/24"]).length, 1);
    assert.equal(addresses("[fd00::7]:5000", ["fd00::/16"]).length, 2);
    assert.equal(addresses("reg.example.com", ["0.0.0.0/0"]).length, 1);
    assert.equal(addresses("192.168.1.7", ["192.168.1.0/33"]).length, 1);
  });

  it("with a name that only looks local is not this machine", () => {
    assert.deepEqual(addresses("127.0.0.1.example.com"), ["https://127.0.0.1.example.com"]);
    assert.deepEqual(addresses("localhost.example.com"), ["https://localhost.example.com"]);
  });

  it("with a port that does not exist is refused", () => {
    assert.throws(() => addresses("host:99999"), { kind: "invalid" });
  });
});
