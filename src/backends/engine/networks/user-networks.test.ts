import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { type ErrorKind, isErrorKind, messageOf } from "../../../common/errors.ts";
import { NetworkEndpointSchema } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { CreateNetworkRequestSchema, NetworkSchema } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { AddressBook } from "./address-book.ts";
import { defaultGatewayOf } from "../../model/default-gateway.ts";
import { validateConfiguration } from "./decisions/config-networks.ts";
import { validateNameAndPools, validateNetwork, withIpVersions } from "./decisions/validate-network.ts";

type Request = MessageInitShape<typeof CreateNetworkRequestSchema>;

function validate(request: Request, backend = "local", settings: "apply" | "ignore" = "apply") {
  const asked = withIpVersions(create(CreateNetworkRequestSchema, { name: "net", ...request }));
  validateNameAndPools(asked);
  validateConfiguration(asked);
  return validateNetwork(asked, backend, settings);
}

const manyAddresses = Object.fromEntries(
  Array.from({ length: 257 }, (_, n) => [`a${n}`, `10.0.1.${n % 250}`]),
);

describe("a network that is asked for", () => {
  it("may say what holds anyway, and what Docker does not know", () => {
    validate({});
    validate({ driver: "bridge", ipamDriver: "default" });
    validate({ options: { "com.docker.network.bridge.enable_icc": "true", mine: "own" } });
    validate({
      pools: [
        {
          subnet: "10.0.0.0/8",
          ipRange: "10.1.0.0/16",
          gateway: "10.0.0.1",
          auxiliaryAddresses: { nas: "10.0.0.2" },
        },
      ],
    });
  });

  it("may ask a cloud for what only a bridge has: it is named, and what would open a network is honoured", () => {
    const request: Request = {
      enableIpv6: true,
      pools: [{ subnet: "10.0.0.0/8" }, { subnet: "fd00::/64" }],
      options: {
        "com.docker.network.bridge.name": "br0",
        "com.docker.network.bridge.enable_icc": "false",
      },
    };
    assert.deepEqual(validate(request, "ecs", "ignore"), [
      "IPv6 networks",
      "the network option com.docker.network.bridge.name=br0",
    ]);
  });

  it("may be without IPv4 where that is not applied, by a field or by an option, but not without both", () => {
    const unapplied = ["networks without IPv4", "IPv6 networks"];
    assert.deepEqual(validate({ enableIpv4: false, enableIpv6: true }, "ecs", "ignore"), unapplied);
    const options = {
      "com.docker.network.enable_ipv4": "False",
      "com.docker.network.enable_ipv6": "t",
    };
    assert.deepEqual(validate({ options }, "ecs", "ignore"), unapplied);
    assert.deepEqual(
      validate({ options: { ...options, "com.docker.network.enable_ipv6": "0" }, enableIpv4: true }),
      [],
    );
  });

  const refusals: readonly (readonly [Request, ErrorKind, RegExp])[] = [
    [{ name: "none" }, "forbidden", /^operation is not permitted on predefined none network $/],
    [{ name: "" }, "invalid", /^invalid name: name is empty$/],
    [{ driver: "null" }, "forbidden", /^only one instance of "null" network is allowed$/],
    [{ driver: "overlay" }, "not-found", /^plugin "overlay" not found$/],
    [{ ingress: true }, "forbidden", /^Ingress network can only be global scope network$/],
    [{ scope: "swarm" }, "forbidden", /^cannot create a swarm scoped network when swarm is not active$/],
    [{ enableIpv4: false }, "invalid", /^IPv4 or IPv6 must be enabled$/],
    [{ enableIpv4: false, enableIpv6: true }, "not-implemented", /networks without IPv4, IPv6 networks$/],
    [
      { options: { "com.docker.network.enable_ipv4": "maybe" } },
      "invalid",
      /^driver-opt "com\.docker\.network\.enable_ipv4" is not a valid bool$/,
    ],
    ...[{ ingress: true }, { internal: true }, { attachable: true }, { scope: "local" }].map(
      (operator) =>
        [
          { configOnly: true, ...operator },
          "forbidden",
          /^configuration network can only contain network specific fields\. Network operator fields like \[ ingress \| internal \| attachable \| scope \] are not supported\.$/,
        ] as const,
    ),
    [
      { configOnly: true, configFrom: "other" },
      "forbidden",
      /^a configuration network cannot depend on another configuration network$/,
    ],
    ...[
      { ipamDriver: "dhcp" },
      { enableIpv4: false },
      { enableIpv6: true },
      { labels: { a: "b" } },
      { ipamOptions: { a: "b" } },
      { pools: [{ subnet: "10.0.0.0/8" }] },
    ].map(
      (own) =>
        [
          { configFrom: "other", ...own },
          "forbidden",
          /^user specified configurations are not supported if the network depends on a configuration network$/,
        ] as const,
    ),
    [
      { configFrom: "other", options: { a: "b" } },
      "forbidden",
      /^network driver options are not supported if the network depends on a configuration network$/,
    ],
    [{ ipamDriver: "dhcp" }, "not-found", /^plugin "dhcp" not found$/],
    [{ enableIpv6: true }, "not-implemented", /IPv6 networks$/],
    [
      { options: { "com.docker.network.bridge.trusted_host_interfaces": "br0" } },
      "not-implemented",
      /the network option com\.docker\.network\.bridge\.trusted_host_interfaces=br0$/,
    ],
    [{ pools: [{ subnet: "" }] }, "invalid", /invalid subnet : invalid CIDR block notation$/],
    [{ pools: [{ subnet: "10.0.0.0" }] }, "invalid", /invalid subnet 10\.0\.0\.0: invalid CIDR block/],
    [{ pools: [{ subnet: "10.0.0.1/8" }] }, "invalid", /it should be 10\.0\.0\.0\/8$/],
    [
      { pools: [{ subnet: "10.0.0.0/24", ipRange: "10.0.0.0/16" }] },
      "invalid",
      /CIDR block is bigger than its parent subnet 10\.0\.0\.0\/24$/,
    ],
    [
      { pools: [{ subnet: "10.0.0.0/24", ipRange: "10.0.1.0/25" }] },
      "invalid",
      /parent subnet 10\.0\.0\.0\/24 doesn't contain ip-range$/,
    ],
    [
      { pools: [{ subnet: "10.0.0.0/24", gateway: "10.0.1.1" }] },
      "invalid",
      /invalid gateway 10\.0\.1\.1: parent subnet 10\.0\.0\.0\/24 doesn't contain this address$/,
    ],
    [
      { pools: [{ subnet: "10.0.0.0/24", auxiliaryAddresses: { nas: "here" } }] },
      "invalid",
      /invalid auxiliary address nas: invalid address$/,
    ],
    [
      { pools: [{ subnet: "10.0.0.0/16", auxiliaryAddresses: manyAddresses }] },
      "invalid",
      /too many auxiliary addresses: 257, at most 256$/,
    ],
    [
      { pools: [{ subnet: "10.0.0.0/24" }, { subnet: "10.0.1.0/24" }] },
      "forbidden",
      /doesn't support multiple subnets$/,
    ],
  ];
  for (const [request, kind, message] of refusals) {
    it(`is refused as ${kind}: ${message.source} (${JSON.stringify(request)})`, () => {
      assert.throws(
        () => validate(request),
        (error) => isErrorKind(error, kind) && message.test(messageOf(error)),
      );
    });
  }
});

describe("the way out of a container", () => {
  const on = (gateway: string, gwPriority = 0) =>
    create(NetworkEndpointSchema, { gateway, config: { gwPriority } });

  it("is the network with the highest priority, then the first by name", () => {
    assert.equal(defaultGatewayOf({ b: on("2"), a: on("1") }), "1");
    assert.equal(defaultGatewayOf({ b: on("2", 1), a: on("1") }), "2");
    assert.equal(defaultGatewayOf({ b: on("2"), a: on("1", -1) }), "2");
  });

  it("is never an internal network", () => {
    assert.equal(defaultGatewayOf({ closed: on("", 9), open: on("1") }), "1");
    assert.equal(defaultGatewayOf({ closed: on("") }), undefined);
  });
});

describe("the addresses of a network", () => {
  it("are kept free where they are another's, and have no gateway on an internal network", () => {
    const network = create(NetworkSchema, {
      id: "n",
      internal: true,
      pools: [{ subnet: "10.0.0.0/29", gateway: "10.0.0.1", auxiliaryAddresses: { nas: "10.0.0.2" } }],
    });
    const book = new AddressBook();
    assert.deepEqual(book.take(network, ""), { address: "10.0.0.3", prefixLength: 29, gateway: "" });
    assert.throws(
      () => book.take(network, "10.0.0.2"),
      (error) => isErrorKind(error, "forbidden"),
    );
  });
});
