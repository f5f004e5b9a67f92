import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isEcr } from "./credentials.ts";

describe("a registry", () => {
  it("is ECR by AWS's own names", () => {
    for (const host of [
      "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
      "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
      "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
      "123456789012.dkr-ecr.eu-west-1.on.aws",
    ]) {
      assert.ok(isEcr(host), host);
    }
  });

  it("is not shown a token where it only sounds like one", () => {
    for (const host of [
      "123456789012.dkr.ecr.eu-west-1.example.com",
      "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.com",
      "123456789012.dkr.ecr.amazonaws.com.evil",
      "registry.example.com",
    ]) {
      assert.ok(!isEcr(host), host);
    }
  });
});
