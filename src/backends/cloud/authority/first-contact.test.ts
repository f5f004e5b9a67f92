import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { createServer, type TLSSocket } from "node:tls";

import type { ClientCredentials } from "../../../agent-client/address.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { createAuthority } from "./authority.ts";
import { readAuthority } from "./authority-file.ts";
import { learnPin } from "./first-contact.ts";
import { listenHere } from "../../../../test/support/listen-here.ts";
import { untilTrue } from "../../../../test/support/until.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

describe("the first contact with an agent", () => {
  const clock = new ManualClock(Date.now());
  let credentials: ClientCredentials;

  before(async () => {
    const folder = scratchDirectory();
    const authority = await createAuthority(await readAuthority(join(folder, "ca.pem")), clock);
    credentials = await authority.credentialsFor("c".repeat(64));
  });

  for (const [what, words] of [
    ["says nothing", ""],
    ["goes on talking", "more"],
  ] as const) {
    it(`is over in time with somebody who ${what} and does not close the connection`, async (t) => {
      const { key, certificateChain: cert } = credentials;
      const server = createServer({ key, cert, allowHalfOpen: true });
      const port = await listenHere(server);
      t.after(() => server.close());
      const taken = once(server, "secureConnection") as Promise<[TLSSocket]>;
      const target = { host: "127.0.0.1", port };
      const pin = await learnPin(target, credentials, AbortSignal.timeout(120_000), () => {}, clock);
      assert.equal(pin.length, 32);
      const [connection] = await taken;
      t.after(() => connection.destroy());
      connection.on("error", () => {});
      connection.write(words);
      await clock.advance(60_000);
      await untilTrue(() => {
        connection.write("still there?"); // Refused once nobody is.
        return connection.destroyed;
      });
    });
  }
});
