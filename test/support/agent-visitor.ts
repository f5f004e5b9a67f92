/**
 * A program that knocks at an agent's port from wherever it runs, by TLS: JSON with `host`, `port` and what it shows
 * (`key`, `cert`) on standard input; `admitted`, `refused` or `unreached` on standard output, and the key of the agent.
 */
import { text } from "node:stream/consumers";
import { connect, type ConnectionOptions } from "node:tls";

/** The outcome of the visit. */
export interface Visit {
  /** Admitted: the agent spoke HTTP/2. Refused: it ended the connection. Unreached: there was none. */
  readonly outcome: "admitted" | "refused" | "unreached";
  /** The agent's public key (SPKI), base64, as anybody sees it; empty where the handshake did not come so far. */
  readonly publicKey: string;
}

const given = JSON.parse(await text(process.stdin)) as ConnectionOptions;
const visit = { outcome: "unreached" as Visit["outcome"], publicKey: "" };
const options = { minVersion: "TLSv1.3", ALPNProtocols: ["h2"], rejectUnauthorized: false } as const;
const socket = connect({ ...given, ...options }, () => {
  visit.publicKey =
    socket.getPeerX509Certificate()?.publicKey.export({ type: "spki", format: "der" }).toString("base64") ??
    "";
  socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"); // Preface and empty settings.
});
socket.once("connect", () => {
  visit.outcome = "refused";
});
socket.once("data", () => {
  visit.outcome = "admitted";
  socket.destroy();
});
socket.once("error", () => {});
socket.once("close", () => process.stdout.write(JSON.stringify(visit)));
