/** An agent that says what it likes, as root in its container can have it do. */
import "reflect-metadata";

import { createHash, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectTls } from "node:tls";

import { PemConverter, X509CertificateGenerator } from "@peculiar/x509";
import { createWebSocketStream, WebSocket } from "ws";

import { shownToken } from "../support/shown-token.ts";

/** Its key, by which it is known. */
export class HostileAgent {
  readonly #containerId: string;
  readonly #key: string;
  readonly #certificate: Buffer;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  /** Its SHA-256, hexadecimal. */
  readonly pin: string;

  private constructor(containerId: string, key: string, certificate: Buffer) {
    this.#containerId = containerId;
    this.#key = key;
    this.#certificate = certificate;
    this.publicKey = new X509Certificate(certificate).publicKey.export({ type: "spki", format: "der" });
    this.pin = createHash("sha256").update(this.publicKey).digest("hex");
  }

  static async make(containerId: string): Promise<HostileAgent> {
    const signingAlgorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
    const keys = await crypto.subtle.generateKey(signingAlgorithm, true, ["sign", "verify"]);
    const certificate = await X509CertificateGenerator.createSelfSigned({ keys, signingAlgorithm });
    const key = PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
    return new HostileAgent(containerId, key, Buffer.from(certificate.rawData));
  }

  /**
   * Calls a relay and shows the key.
   *
   * @param token of a start, if it has one
   * @throws Error: it is left before it could
   */
  async call(url: string, instance: string, token?: string): Promise<WebSocket> {
    const socket = new WebSocket(url, "sockerless.agent.v1", { rejectUnauthorized: false });
    socket.on("error", () => {});
    const left = new AbortController();
    socket.once("close", () => left.abort());
    const [nonce] = (await once(socket, "message", { signal: left.signal })) as [Buffer];
    const signed = Buffer.from(
      `sockerless callback ${instance} ${this.#containerId} ${nonce.toString("hex")}`,
    );
    const certificate = this.#certificate.toString("base64");
    const signature = sign("sha256", signed, this.#key).toString("base64");
    const shown = { certificate, signature };
    socket.send(
      JSON.stringify(
        token === undefined ? shown : { ...shown, token: shownToken(token, signed, this.#certificate) },
      ),
    );
    return socket;
  }

  /** Speaks to the agent that it was joined with. @param certificates to be shown, DER, leaf first */
  async speak(socket: WebSocket, certificates: readonly Uint8Array[]): Promise<ClientHttp2Session> {
    const secure = connectTls({
      socket: createWebSocketStream(socket),
      ALPNProtocols: ["h2"],
      key: this.#key,
      cert: certificates.map((each) => new X509Certificate(each).toString()).join("\n"),
      rejectUnauthorized: false, // It is not asked with whom it is joined.
    });
    socket.once("close", () => secure.destroy()); // It does not notice by itself.
    await once(secure, "secureConnect");
    const session = connectHttp2("http://agent", { createConnection: () => secure });
    session.on("error", () => {});
    return session;
  }
}

/** The status of a call without a message. @throws Error: the session is closed */
export async function grpcStatus(session: ClientHttp2Session, method: string): Promise<number> {
  const request = session.request({
    ":method": "POST",
    ":path": `/sockerless.agent.v1.AgentService/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
  });
  const answer = Promise.withResolvers<number>();
  request.once("response", ({ "grpc-status": status }) => status && answer.resolve(Number(status)));
  request.once("trailers", ({ "grpc-status": status }) => answer.resolve(Number(status)));
  request.once("error", answer.reject);
  request.once("close", () => answer.reject(new Error("the session is closed")));
  request.resume();
  request.end(Buffer.alloc(5));
  return await answer.promise;
}
