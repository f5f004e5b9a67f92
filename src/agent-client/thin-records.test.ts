import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect as connectNet } from "node:net";
import { test } from "node:test";
import { connect, createServer, type TLSSocket } from "node:tls";

import { makeCertificates } from "../../test/support/certificates.ts";
import { limitThinRecords } from "./thin-records.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

test("records that carry a byte each end a connection, and those that carry frames do not", async (t) => {
  const directory = scratchDirectory();
  const { server: files } = await makeCertificates(directory);
  const options = { key: readFileSync(files.key), cert: readFileSync(files.cert) };
  const write = (socket: TLSSocket): void => {
    const length = size;
    const more = (): void => {
      socket.write(Buffer.alloc(length), (error) => error ?? setImmediate(more));
    };
    socket.on("error", () => {});
    more();
  };
  let size = 0;
  const server = createServer(options, write).listen(0, "127.0.0.1");
  await once(server, "listening");
  const opened: TLSSocket[] = [];
  t.after(() => {
    for (const each of opened) {
      each.destroy();
    }
    server.close();
  });
  const open = (bytes: number): TLSSocket => {
    size = bytes;
    const carrier = connectNet((server.address() as AddressInfo).port, "127.0.0.1");
    const socket = connect({ socket: carrier, rejectUnauthorized: false });
    limitThinRecords(socket, () => carrier.bytesRead);
    opened.push(socket.resume());
    return socket;
  };
  const honest = open(20);
  await once(honest, "data"); // Its server has chosen the size by now.
  const [error] = (await once(open(1), "error")) as [Error];
  assert.match(error.message, /records that carry nothing/);
  assert.equal(honest.destroyed, false);
});
