import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { permissionOf, surplusPermissions } from "./rules.ts";

describe("rules that are not wanted", () => {
  it("are told apart, of whatever kind they are: one that is unknown meanwhile keeps no other", () => {
    const range = { IpProtocol: "tcp", FromPort: 80, ToPort: 90 };
    const every = { IpProtocol: "-1" };
    const [one, other] = [{ CidrIp: "10.1.0.0/16" }, { CidrIp: "10.2.0.0/16" }];
    const present = [
      { ...range, IpRanges: [{ ...one, Description: "by hand" }, other] },
      { ...every, IpRanges: [one], PrefixListIds: [{ PrefixListId: "pl-1" }, { PrefixListId: "pl-2" }] },
    ];
    assert.deepEqual(surplusPermissions([], present), [
      { ...range, IpRanges: [one] },
      { ...range, IpRanges: [other] },
      { ...every, IpRanges: [one] },
      { ...every, PrefixListIds: [{ PrefixListId: "pl-1" }] },
      { ...every, PrefixListIds: [{ PrefixListId: "pl-2" }] },
    ]);
  });

  it("are those beside the wanted ones, which EC2 tells together with them", () => {
    const wanted = { tcpPort: 443, peer: { cidr: "0.0.0.0/0" } };
    const { IpRanges = [], ...ports } = permissionOf(wanted, "sockerless");
    const group = { GroupId: "sg-1", UserId: "123456789012" };
    const present = [
      { ...ports, IpRanges: [...IpRanges, { CidrIp: "10.0.0.0/8" }], UserIdGroupPairs: [group] },
    ];
    assert.deepEqual(surplusPermissions([wanted], present), [
      { ...ports, IpRanges: [{ CidrIp: "10.0.0.0/8" }] },
      { ...ports, UserIdGroupPairs: [group] },
    ]);
  });
});
