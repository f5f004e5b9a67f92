/** AWS and registries behind a company's proxy, by their own names: accounts of two regions, over TLS. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { createServer } from "node:https";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { type Aws, startAws } from "../simulators/aws/aws.ts";
import { type ConnectProxy, startConnectProxy } from "../support/connect-proxy.ts";
import { Daemon } from "../support/daemon.ts";
import { listenHere } from "../support/listen-here.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe("behind a proxy", () => {
  const resources = new AsyncDisposableStack();
  let home: Aws;
  let abroad: Aws;
  let proxy: ConnectProxy;
  let daemon: Daemon;
  const registryAbroad = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

  before(async () => {
    const directory = scratchDirectory();
    home = resources.use(await startAws({ lightweight: true }));
    abroad = resources.use(await startAws({ lightweight: true, region: "eu-west-1" }));
    abroad.iam.shareKey(home.credentials, home.iam);
    const certificate = await makeCertificate(directory);
    const front = createServer(certificate.files, (incoming, response) => {
      const { host = "" } = incoming.headers;
      const onward = request(new URL(incoming.url ?? "/", serverOf(host)), {
        method: incoming.method,
        headers: incoming.headers,
      });
      onward.on("response", (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      onward.on("error", () => response.destroy());
      incoming.pipe(onward);
    });
    const port = await listenHere(front);
    resources.defer(async () => {
      const closed = once(front, "close");
      front.close();
      front.closeAllConnections();
      await closed;
    });
    proxy = resources.use(await startConnectProxy(() => port));
    const config = join(directory, "config.yaml");
    const { endpoint: _simulated, ecr_repository: _local, ...account } = home.config;
    const ecs = {
      ...account,
      agent_image: "none.example.com/agent",
      agent_ca: join(directory, "agent-ca.pem"),
    };
    await writeFile(config, JSON.stringify({ ecs }));
    daemon = resources.use(
      await Daemon.start({
        args: ["--backend", "ecs", "--config", config],
        env: {
          AWS_ACCESS_KEY_ID: home.credentials.accessKeyId,
          AWS_SECRET_ACCESS_KEY: home.credentials.secretAccessKey,
          AWS_CONFIG_FILE: "/dev/null",
          AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
          HTTPS_PROXY: proxy.url,
          HTTP_PROXY: proxy.url,
          NO_PROXY: "localhost",
          NODE_EXTRA_CA_CERTS: certificate.authority,
        },
      }),
    );
  });
  after(() => resources.disposeAsync());

  function serverOf(host: string): string {
    if (host === registryAbroad) {
      return `http://${String(abroad.config["ecr_repository"]).replace(/\/.*/, "")}`;
    }
    return host.includes("eu-west-1") ? abroad.endpoint : home.endpoint;
  }

  it("each service of AWS is asked by its own name through it", async () => {
    await untilTrue(() => Promise.resolve(home.calls.count("sts.GetCallerIdentity") > 0));
    await untilTrue(() => Promise.resolve(home.calls.count("ecs.DescribeClusters") > 0));
    for (const host of ["sts", "ecs", "ec2"].map((name) => `${name}.us-east-1.amazonaws.com:443`)) {
      assert.ok(proxy.asked.includes(host), `${host} in ${proxy.asked.join(", ")}`);
    }
    await daemon.ok("volume", "create", "data");
    assert.ok(proxy.asked.includes("elasticfilesystem.us-east-1.amazonaws.com:443"));
    await daemon.ok("volume", "rm", "data");
  });

  it("an ECR of another region is pulled from with a token of its own region and account", async () => {
    const { errorText } = await daemon.docker("pull", `${registryAbroad}/sockerless:missing`);
    assert.match(errorText, /manifest .* not found|manifest unknown|not found/);
    assert.deepEqual(
      abroad.calls.all("ecr.GetAuthorizationToken").map(({ input }) => input),
      [{ registryIds: ["123456789012"] }],
    );
    assert.equal(home.calls.count("ecr.GetAuthorizationToken"), 0);
    assert.ok(proxy.asked.includes("api.ecr.eu-west-1.amazonaws.com:443"));
    assert.ok(proxy.asked.includes(`${registryAbroad}:443`));
  });
});

/** A certificate of AWS's names, which is its own authority. */
async function makeCertificate(directory: string) {
  const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const names = ["*.us-east-1", "*.eu-west-1", "api.ecr.eu-west-1", "*.dkr.ecr.eu-west-1"];
  execFileSync(
    "openssl",
    [
      ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"],
      ["-subj", "/CN=AWS", "-addext"],
      [`subjectAltName=${names.map((name) => `DNS:${name}.amazonaws.com`).join(",")}`],
      ["-keyout", key, "-out", cert],
    ].flat(),
    { stdio: "ignore" },
  );
  return { files: { key: await readFile(key), cert: await readFile(cert) }, authority: cert };
}
