import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { ServiceQuotasClient } from "@aws-sdk/client-service-quotas";

import { ManualClock } from "../../common/manual-clock.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import type { AwsService } from "./aws/clients.ts";
import { fakeClient, refusal } from "./testing/fake-client.ts";
import { VcpuQuota } from "./vcpu-quota.ts";

function setUp(answer: () => unknown) {
  const { client, calls } = fakeClient<AwsService<ServiceQuotasClient>>({ GetServiceQuota: answer });
  const clock = new ManualClock();
  const { logger } = capturedLogger();
  return { quota: new VcpuQuota({ serviceQuotas: client, spot: false, clock, logger }), calls, clock };
}

describe("the quota of vCPUs", () => {
  it("is read once for containers that fit, and again before one is refused", async () => {
    let vcpus = 6;
    const { quota, calls, clock } = setUp(() => ({ Quota: { Value: vcpus } }));
    assert.equal(await quota.fits(6144), true);
    await clock.advance(3_600_000);
    assert.equal(await quota.fits(256), true);
    assert.equal(calls.length, 1);
    vcpus = 8;
    assert.equal(await quota.fits(8192), true);
    assert.equal(calls.length, 2);
    assert.equal(await quota.fits(16_384), false);
  });

  it("is read for metrics every ten minutes, and unknown to them where it cannot be", async () => {
    let answer = (): unknown => ({ Quota: { Value: 6 } });
    const { quota, calls, clock } = setUp(() => answer());
    const { signal } = new AbortController();
    assert.equal(await quota.refreshed(signal), 6);
    answer = () => {
      throw refusal("service-quotas", "GetServiceQuota", "AccessDeniedException", "is not authorized");
    };
    assert.equal(await quota.refreshed(signal), 6);
    assert.equal(calls.length, 1);
    await clock.advance(11 * 60_000);
    assert.equal(await quota.refreshed(signal), undefined);
    assert.equal(calls.length, 2);
  });

  it("is unknown where it may not be read, which is asked seldom", async () => {
    const { quota, calls, clock } = setUp(() => {
      throw refusal("service-quotas", "GetServiceQuota", "AccessDeniedException", "is not authorized");
    });
    assert.equal(await quota.fits(16_384), undefined);
    assert.equal(await quota.fits(16_384), undefined);
    assert.equal(calls.length, 1);
    await clock.advance(11 * 60_000);
    assert.equal(await quota.fits(16_384), undefined);
    assert.equal(calls.length, 2);
  });
});
