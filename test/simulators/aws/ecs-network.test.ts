import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  EC2Client,
  type IpPermission,
  RevokeSecurityGroupIngressCommand,
} from "@aws-sdk/client-ec2";
import { duringTests } from "../../support/during-tests.ts";
import { until } from "../../support/until.ts";
import { EcsScene } from "./ecs-scene.ts";

const port = 8080;

let server: string;
let client: string;
const { scene, ec2 } = duringTests(async (resources) => {
  const scene = resources.use(await EcsScene.start());
  const ec2 = new EC2Client(scene.aws.clientConfig);
  const createGroup = async (name: string): Promise<string> => {
    const { vpcId } = scene.aws.account;
    const made = await ec2.send(
      new CreateSecurityGroupCommand({ GroupName: name, Description: name, VpcId: vpcId }),
    );
    return made.GroupId ?? "";
  };
  server = await createGroup("server");
  client = await createGroup("client");
  return { scene, ec2 };
});

function tcp(peer: Partial<IpPermission>): IpPermission[] {
  return [{ IpProtocol: "tcp", FromPort: port, ToPort: port, ...peer }];
}

/** A task that answers `hello` on the port; answers its ARN and address. */
async function startServer(): Promise<{ readonly taskArn: string; readonly address: string }> {
  const serve = `echo 'echo hello' > /tmp/hello; chmod +x /tmp/hello; nc -ll -p ${port} -e /bin/sh /tmp/hello`;
  const definition = await scene.register([scene.shell("main", serve, { stopTimeout: 2 })]);
  const taskArn = await scene.run(definition, { networkConfiguration: scene.network([server]) });
  await scene.running(taskArn);
  return { taskArn, address: scene.aws.ecs.task(taskArn).address ?? "" };
}

/** Lines that a task of the client's group hears from a server. */
async function hear(address: string): Promise<string[]> {
  const taskArn = await scene.run(
    await scene.register([scene.shell("main", `nc -w 2 ${address} ${port} </dev/null || echo nothing`)]),
    { networkConfiguration: scene.network([client]) },
  );
  await scene.stopped(taskArn);
  return scene.logged(taskArn, "main").filter((line) => !line.startsWith("nc:"));
}

test("nothing reaches a task that no rule of its group lets in, by group or by range, and rules hold at once", async () => {
  const { address } = await startServer();
  const fromHere = async (): Promise<string | undefined> => {
    const socket = connect({ host: address, port });
    try {
      return await text(socket.setTimeout(1000, () => socket.destroy()));
    } catch {
      return undefined;
    }
  };
  assert.deepEqual(await hear(address), ["nothing"]);
  const byGroup = tcp({ UserIdGroupPairs: [{ GroupId: client }] });
  await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: server, IpPermissions: byGroup }));
  await until(async () => (await hear(address)).includes("hello") || undefined);
  assert.equal(await fromHere(), undefined);

  const [{ routerAddress = "" } = {}] = scene.aws.services.network.subnets();
  const byRange = tcp({ IpRanges: [{ CidrIp: `${routerAddress}/32` }] });
  await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: server, IpPermissions: byRange }));
  await until(async () => ((await fromHere())?.trim() === "hello" ? true : undefined));

  await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: server, IpPermissions: byGroup }));
  await until(async () => (await hear(address)).includes("nothing") || undefined);
  await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: server, IpPermissions: byRange }));
});

test("a cut drops what is established too, and ends without losing it", async () => {
  const echo = await scene.register([
    scene.shell("main", `nc -ll -p ${port} -e /bin/cat`, { stopTimeout: 2 }),
  ]);
  const [{ routerAddress = "" } = {}] = scene.aws.services.network.subnets();
  const byRange = tcp({ IpRanges: [{ CidrIp: `${routerAddress}/32` }] });
  await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: server, IpPermissions: byRange }));
  const taskArn = await scene.run(echo, { networkConfiguration: scene.network([server]) });
  await scene.running(taskArn);
  const host = scene.aws.ecs.task(taskArn).address ?? "";
  let received = "";
  using closing = new DisposableStack();
  const socket = closing.adopt(await until(() => connected(host)), (each) => void each.destroy());
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString();
  });
  socket.write("one ");
  await until(() => received === "one " || undefined);
  await scene.aws.ecs.cutNetwork(taskArn);
  socket.write("two ");
  // The life of another task is long enough for a byte to arrive; nothing can be waited for that does not happen.
  await scene.output("exit 0");
  assert.equal(received, "one ");
  await scene.aws.ecs.restoreNetwork(taskArn);
  await until(() => received === "one two " || undefined);
});

/** A connection to the port; undefined while nobody listens. */
function connected(host: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port }, () => resolve(socket));
    socket.once("error", () => resolve(undefined));
  });
}

test("a task that vanishes is missing, its address answers nobody, and nothing of it is left", async () => {
  const { taskArn } = await startServer();
  const { finished } = scene.aws.ecs.task(taskArn);
  scene.aws.ecs.vanish(taskArn);
  await assert.rejects(scene.describe(taskArn), /missing/);
  await finished;
});
