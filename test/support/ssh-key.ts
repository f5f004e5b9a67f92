/** Keys that SSH agents have. */
import { generateKeyPairSync } from "node:crypto";

/** A new key: the private one as PEM, the public one as agents and `authorized_keys` tell it. */
export function makeSshKey(): { readonly pem: string | Buffer; readonly blob: string } {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = Buffer.from(publicKey.export({ format: "jwk" }).x ?? "", "base64url");
  const sshString = (content: Buffer) => {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(content.length);
    return Buffer.concat([size, content]);
  };
  const blob = Buffer.concat([sshString(Buffer.from("ssh-ed25519")), sshString(raw)]).toString("base64");
  return { pem: privateKey.export({ format: "pem", type: "pkcs8" }), blob };
}
