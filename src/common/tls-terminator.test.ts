import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { connect, type SecureVersion } from "node:tls";

import { pino } from "pino";

import { makeCertificates } from "../../test/support/certificates.ts";
import { readMutualTls, reloadCertificates } from "./listen.ts";
import { TlsTerminator } from "./tls-terminator.ts";
import { listenHere } from "../../test/support/listen-here.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

test("a client shows its certificate in each connection: a session that outlives it is not taken up", async (t) => {
  const directory = scratchDirectory();
  const { server, client } = await makeCertificates(directory);
  const [ca, cert, key] = await Promise.all(
    [client.ca, client.cert, client.key].map((path) => readFile(path)),
  );
  const terminator = await TlsTerminator.start({
    tls: await readMutualTls(server),
    protocols: [],
    serve: (socket) => socket.end("hello"),
    report: () => {},
    logger: pino({ level: "silent" }),
  });
  t.after(() => terminator.close());
  const listener = terminator.createListener();
  const port = await listenHere(listener);
  const visit = async (version: SecureVersion, session?: Buffer) => {
    const versions = { minVersion: version, maxVersion: version };
    const socket = connect({ port, host: "127.0.0.1", ca, cert, key, session, ...versions });
    let kept: Buffer | undefined;
    socket.on("session", (given) => {
      kept = given;
    });
    await once(socket, "secureConnect");
    const reused = socket.isSessionReused();
    const [said] = await once(socket, "data");
    await once(socket.resume(), "close");
    return { reused, said: String(said), kept };
  };
  for (const reloads of [false, true]) {
    if (reloads) {
      await reloadCertificates([terminator], server);
    }
    for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
      const { kept } = await visit(version);
      const { reused, said } = await visit(version, kept);
      assert.deepEqual({ reused, said }, { reused: false, said: "hello" }, version);
    }
  }
});
