import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { garbageCollection } from "../../../../test/support/garbage-collection.ts";
import { isErrorKind } from "../../../common/errors.ts";
import { NetworkSchema } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { AddressBook } from "./address-book.ts";
import { macOfAddress } from "../../model/endpoints.ts";
import { choosePool } from "./decisions/address-pools.ts";
import { formatCidr, overlaps, parseAddress, parseCidr } from "./decisions/cidr.ts";

describe("networks in CIDR form", () => {
  it("are parsed to their first address, or not at all", () => {
    assert.deepEqual(parseCidr("172.17.5.9/16"), { base: 172 * 2 ** 24 + 17 * 2 ** 16, prefix: 16 });
    for (const text of ["", "1.2.3", "1.2.3.4/33", "1.2.3.256/8", "01.2.3.4", "1.2.3.4/8/8", "::1/64"]) {
      assert.equal(parseCidr(text), undefined, text);
    }
    assert.equal(parseAddress("255.255.255.255"), 2 ** 32 - 1);
  });

  it("overlap where one holds the other", () => {
    const cidr = (text: string) => parseCidr(text) ?? { base: 0, prefix: 0 };
    assert.ok(overlaps(cidr("10.0.0.0/8"), cidr("10.1.2.0/24")));
    assert.ok(overlaps(cidr("10.1.2.0/24"), cidr("10.0.0.0/8")));
    assert.ok(!overlaps(cidr("172.17.0.0/16"), cidr("172.18.0.0/16")));
  });
});

describe("the pool of a new network", () => {
  it("is 172.17.0.0/16 unless that overlaps something, then the next that does not", () => {
    assert.equal(formatCidr(choosePool([])), "172.17.0.0/16");
    assert.equal(formatCidr(choosePool(["0.0.0.0/0", "fe80::/64"])), "172.17.0.0/16");
    assert.equal(formatCidr(choosePool(["172.17.3.0/24", "172.18.0.0/15"])), "172.20.0.0/16");
    assert.equal(formatCidr(choosePool(["172.16.0.0/12"])), "192.168.0.0/20");
    const small = [
      { base: "172.17.0.0/16", size: 16 },
      { base: "172.18.0.0/15", size: 24 },
    ];
    assert.equal(formatCidr(choosePool([], small)), "172.17.0.0/16");
    assert.equal(formatCidr(choosePool(["172.17.0.0/16", "172.18.0.0/23"], small)), "172.18.2.0/24");
  });

  it("is the same as if each slice were compared with each network", () => {
    const text = (base: number, prefix: number) =>
      formatCidr({ base: base - (base % 2 ** (32 - prefix)), prefix });
    const pools = [
      { base: "10.0.0.0/26", size: 28 },
      { base: "10.0.1.0/25", size: 27 },
    ];
    const slices = ["0.0", "0.16", "0.32", "0.48", "1.0", "1.32", "1.64", "1.96"].map((end) => `10.0.${end}`);
    const first = 10 * 2 ** 24;
    for (let seed = 1; seed < 300; seed++) {
      const used = Array.from({ length: seed % 9 }, (_, index) => {
        const number = (seed * 7919 + index * 104_729) % 1_000;
        return text(first + ((number * 37) % 512), 25 + (number % 8));
      });
      const isFree = (slice: string, index: number): boolean =>
        used.every((other) => {
          const [one, two] = [parseCidr(`${slice}/${index < 4 ? 28 : 27}`), parseCidr(other)];
          return one === undefined || two === undefined || !overlaps(one, two);
        });
      const expected = slices.find(isFree);
      const choose = () => formatCidr(choosePool(used, pools)).split("/")[0];
      if (expected === undefined) {
        assert.throws(choose, /fully subnetted/, `${used}`);
      } else {
        assert.equal(choose(), expected, `${used}`);
      }
    }
  });

  it("is found without looking at each slice", () => {
    const all = [{ base: "0.0.0.0/0", size: 32 }];
    const used = Array.from({ length: 512 }, (_, index) => formatCidr({ base: index * 2 ** 23, prefix: 9 }));
    assert.throws(() => choosePool(used.toReversed(), all), /fully subnetted/);
    const [free] = used.splice(300, 1);
    assert.equal(formatCidr(choosePool(used, all)), free?.replace("/9", "/32"));
  });

  it("is refused when all are taken", () => {
    assert.throws(
      () => choosePool(["172.16.0.0/12", "192.168.0.0/16"]),
      (error) => isErrorKind(error, "invalid"),
    );
  });
});

describe("addresses", () => {
  const network = create(NetworkSchema, {
    id: "n",
    name: "net",
    pools: [{ subnet: "10.9.0.0/29", gateway: "10.9.0.1" }],
  });

  it("are given from the lowest free one, never the network's, the gateway's or the broadcast", () => {
    const book = new AddressBook();
    const taken = Array.from({ length: 5 }, () => book.take(network, "")?.address);
    assert.deepEqual(taken, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
    assert.throws(() => book.take(network, ""), /no available IPv4 addresses/);
    book.release("n", "10.9.0.4");
    assert.deepEqual(book.take(network, ""), {
      address: "10.9.0.4",
      prefixLength: 29,
      gateway: "10.9.0.1",
    });
  });

  it("are given from the lowest free one after some have been asked for, or let go twice", () => {
    const book = new AddressBook();
    const take = (wanted = ""): string | undefined => book.take(network, wanted)?.address;
    assert.deepEqual([take("10.9.0.3"), take(), take()], ["10.9.0.3", "10.9.0.2", "10.9.0.4"]);
    book.release("n", "10.9.0.3");
    book.release("n", "10.9.0.2");
    book.release("n", "10.9.0.2");
    book.hold("n", "10.9.0.2");
    assert.deepEqual([take(), take()], ["10.9.0.3", "10.9.0.5"]);
    book.release("n", "10.9.0.2");
    book.release("n", "10.9.0.4");
    assert.deepEqual([take(), take()], ["10.9.0.2", "10.9.0.4"]);
  });

  it("are given as asked for, once, and from the network's own only", () => {
    const book = new AddressBook();
    assert.equal(book.take(network, "10.9.0.5")?.address, "10.9.0.5");
    assert.throws(() => book.take(network, "10.9.0.5"), /Address already in use/);
    assert.throws(() => book.take(network, "10.9.0.1"), /Address already in use/);
    assert.throws(
      () => book.take(network, "10.10.0.5"),
      (error) => isErrorKind(error, "invalid"),
    );
  });

  it("keep nothing of a network on which none is given any more", () => {
    const collectGarbage = garbageCollection();
    const book = new AddressBook();
    const heap = (): number => {
      collectGarbage();
      return process.memoryUsage().heapUsed;
    };
    const before = heap();
    const networks = 10_000;
    for (let number = 0; number < networks; number++) {
      const id = String(number).padStart(64, "0");
      const { address = "" } = book.take({ ...network, id }, "") ?? {};
      book.release(id, address);
      assert.throws(() => book.take({ ...network, id }, "10.10.0.5"));
    }
    const bytes = (heap() - before) / networks;
    assert.ok(bytes < 100, `${bytes} bytes for each`);
    assert.equal(book.take(network, "")?.address, "10.9.0.2");
  });

  it("are waited for while a run that has ended lets them go", async () => {
    const book = new AddressBook();
    const [held, other] = [book.take(network, "10.9.0.5"), book.take(network, "10.9.0.6")];
    assert.equal(held?.address, "10.9.0.5");
    assert.equal(book.pendingRelease(network, "10.9.0.5"), undefined, "it is in use");
    const over = Promise.withResolvers<void>();
    book.announceRelease("n", "10.9.0.5", over.promise);
    const release = book.pendingRelease(network, "10.9.0.5");
    assert.notEqual(release, undefined);
    assert.equal(book.pendingRelease(network, other?.address ?? ""), undefined, "nobody lets it go");
    assert.equal(book.pendingRelease(network, ""), undefined, "others are free");
    for (let free = 3; free > 0; free -= 1) {
      book.take(network, "");
    }
    assert.notEqual(book.pendingRelease(network, ""), undefined, "none is free");
    book.release("n", "10.9.0.5");
    over.resolve();
    await release;
    assert.equal(book.pendingRelease(network, "10.9.0.5"), undefined);
    assert.equal(book.take(network, "")?.address, "10.9.0.5");
  });

  it("are none on a network without pools", () => {
    assert.equal(new AddressBook().take(create(NetworkSchema, { id: "h", name: "host" }), ""), undefined);
  });

  it("have one MAC address each, whoever holds them", () => {
    assert.equal(macOfAddress("172.17.0.2"), "02:42:ac:11:00:02");
  });
});
