import assert from "node:assert/strict";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import {
  CreateServiceCommand,
  RegisterInstanceCommand,
  ServiceDiscoveryClient,
} from "@aws-sdk/client-servicediscovery";
import { duringTests } from "../../support/during-tests.ts";
import { busyboxImage } from "../../support/images.ts";
import { registryUser, TestRegistry } from "../../support/registry.ts";
import { tarOf } from "../../support/tar.ts";
import { until } from "../../support/until.ts";
import { EcsScene, exitCodes } from "./ecs-scene.ts";

const scene = duringTests(() => EcsScene.start());

/** Until it is told to end; then it ends with this code. */
const untilStopped = (code: number): string =>
  `trap 'exit ${code}' TERM; echo ready; while true; do usleep 20000; done`;

test("an init container hands a program to the main container, which answers on the task's own address", async () => {
  const shared = { mountPoints: [{ sourceVolume: "tools", containerPath: "/tools" }] };
  const definition = await scene.register(
    [
      scene.shell("init", "cp /bin/busybox /tools/busybox", { essential: false, user: "0", ...shared }),
      scene.shell("main", "", {
        entryPoint: ["/tools/busybox", "nc", "-ll", "-p", "9111", "-e", "/bin/hostname"],
        command: [],
        stopTimeout: 2,
        dependsOn: [{ containerName: "init", condition: "SUCCESS" }],
        ...shared,
      }),
    ],
    { volumes: [{ name: "tools" }] },
  );
  const taskArn = await scene.run(definition);
  const task = await scene.running(taskArn);
  const details = task.attachments?.[0]?.details ?? [];
  const address = details.find(({ name }) => name === "privateIPv4Address")?.value ?? "";
  assert.equal(address, scene.aws.ecs.task(taskArn).address);
  const answer = await until(() => text(connect({ host: address, port: 9111 })).catch(() => undefined));
  assert.equal(answer.trim(), `ip-${address.replaceAll(".", "-")}.ec2.internal`);
  const stopped = await scene.stop(taskArn);
  assert.equal(stopped.stopCode, "UserInitiated");
  assert.equal(stopped.stoppedReason, "Task stopped by user");
  // It is process 1 and handles no SIGTERM: SIGKILL ends it.
  assert.deepEqual(exitCodes(stopped), { init: 0, main: 137 });
});

test("the end of an essential container ends the task, and its exit code and output are told", async () => {
  const taskArn = await scene.run(
    await scene.register([scene.shell("main", "echo out; echo err >&2; printf 'no newline'; exit 7")]),
  );
  const task = await scene.stopped(taskArn);
  assert.equal(task.stopCode, "EssentialContainerExited");
  assert.equal(task.stoppedReason, "Essential container in task exited");
  assert.deepEqual(exitCodes(task), { main: 7 });
  assert.deepEqual(new Set(scene.logged(taskArn, "main")), new Set(["err", "no newline", "out"]));
  assert.equal(task.attachments?.[0]?.status, "DELETED");
});

test("StopTask sends the image's stop signal, else SIGTERM", async () => {
  const image = await busyboxImage({ StopSignal: "SIGUSR1" });
  const { digest } = await scene.registry.push("usr1", "latest", image);
  const usr1 = scene.shell("main", "trap 'exit 3' USR1; echo ready; while true; do usleep 20000; done", {
    image: `${scene.registry.host}/usr1@${digest}`,
  });
  for (const [container, code] of [
    [scene.shell("main", untilStopped(4)), 4],
    [usr1, 3],
  ] as const) {
    const taskArn = await scene.run(await scene.register([container]));
    await until(() => scene.aws.ecs.task(taskArn).state.lastStatus === "RUNNING" || undefined);
    await until(() => scene.logged(taskArn, "main").includes("ready") || undefined);
    assert.deepEqual(exitCodes(await scene.stop(taskArn)), { main: code });
  }
});

test("overrides of a start reach the container", async () => {
  const definition = await scene.register([
    scene.shell("main", "", {
      environment: [
        { name: "A", value: "1" },
        { name: "B", value: "1" },
      ],
    }),
  ]);
  const taskArn = await scene.run(definition, {
    overrides: {
      containerOverrides: [
        {
          name: "main",
          command: ["echo $A $B"],
          environment: [{ name: "B", value: "2" }],
        },
      ],
    },
  });
  await scene.stopped(taskArn);
  assert.deepEqual(scene.logged(taskArn, "main"), ["1 2"]);
});

test("user, read-only root, tmpfs, limits and kernel parameters are the definition's", async () => {
  const container = scene.shell(
    "main",
    "id -u; id -g; touch /x 2>/dev/null || echo read-only; touch /scratch/x && echo written; ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    {
      user: "app:daemon",
      readonlyRootFilesystem: true,
      linuxParameters: {
        tmpfs: [{ containerPath: "/scratch", size: 4, mountOptions: ["mode=1777"] }],
      },
      ulimits: [{ name: "nofile", softLimit: 512, hardLimit: 1024 }],
      systemControls: [{ namespace: "net.ipv4.ip_unprivileged_port_start", value: "80" }],
    },
  );
  const taskArn = await scene.run(await scene.register([container]));
  const task = await scene.stopped(taskArn);
  assert.deepEqual(exitCodes(task), { main: 0 });
  assert.deepEqual(scene.logged(taskArn, "main"), ["1000", "1", "read-only", "written", "512", "80"]);
});

test("more than this machine can give does not keep a task from running", async () => {
  const most = 2 ** 40;
  const container = scene.shell("main", "exit 0", {
    ulimits: [{ name: "nofile", softLimit: most, hardLimit: most }],
  });
  const taskArn = await scene.run(await scene.register([container]));
  assert.deepEqual(exitCodes(await scene.stopped(taskArn)), { main: 0 });
});

test("a container whose dependency did not succeed is not started, and the task has failed to start", async () => {
  const definition = await scene.register([
    scene.shell("init", "exit 5", { essential: false }),
    scene.shell("main", "exit 0", { dependsOn: [{ containerName: "init", condition: "SUCCESS" }] }),
  ]);
  const task = await scene.stopped(await scene.run(definition));
  assert.deepEqual(exitCodes(task), { init: 5, main: undefined });
  assert.equal(task.stopCode, "TaskFailedToStart");
  assert.match(task.stoppedReason ?? "", /dependency .*init.* did not exit successfully/);
});

test("an image that there is not, and a log group that there is not, stop the task with ECS' reasons", async () => {
  const image = `${scene.registry.host}/nothing:latest`;
  const noImage = await scene.stopped(
    await scene.run(await scene.register([scene.shell("main", "", { image })])),
  );
  assert.equal(noImage.stopCode, "TaskFailedToStart");
  assert.equal(
    noImage.stoppedReason,
    `CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref ${image}: ${image}: not found`,
  );
  assert.deepEqual(exitCodes(noImage), { main: undefined });
  const { logConfiguration, ...container } = scene.shell("main", "");
  const options = { ...logConfiguration?.options, "awslogs-group": "/none" };
  const noGroup = await scene.stopped(
    await scene.run(
      await scene.register([{ ...container, logConfiguration: { logDriver: "awslogs", options } }]),
    ),
  );
  assert.match(
    noGroup.stoppedReason ?? "",
    /^ResourceInitializationError: failed to validate logger args:.*ResourceNotFound/,
  );
});

test("an image whose layer cannot be unpacked stops its task, again and again, and nothing else", async () => {
  const layer = await tarOf([{ name: "large", content: "x".repeat(10_000) }]);
  await scene.registry.push("cut", "latest", { layers: [layer.subarray(0, 5000)], config: {} });
  const image = `${scene.registry.host}/cut:latest`;
  const definition = await scene.register([scene.shell("main", "", { image })]);
  for (let round = 0; round < 2; round++) {
    const task = await scene.stopped(await scene.run(definition));
    assert.equal(task.stopCode, "TaskFailedToStart");
    assert.match(task.stoppedReason ?? "", /^CannotPullContainerError: .*unexpected EOF/);
  }
});

test("a Spot task that is interrupted gets its stop signal, and tells why it stopped", async () => {
  const definition = await scene.register([scene.shell("main", untilStopped(9))]);
  const taskArn = await scene.run(definition, {
    capacityProviderStrategy: [{ capacityProvider: "FARGATE_SPOT", weight: 1 }],
  });
  await until(() => scene.aws.ecs.task(taskArn).state.lastStatus === "RUNNING" || undefined);
  await until(() => scene.logged(taskArn, "main").includes("ready") || undefined);
  scene.aws.ecs.interruptSpot(taskArn);
  const task = await scene.stopped(taskArn);
  assert.deepEqual(exitCodes(task), { main: 9 });
  assert.equal(task.capacityProviderName, "FARGATE_SPOT");
  assert.equal(task.stopCode, "SpotInterruption");
  assert.equal(task.stoppedReason, "Your Spot Task was interrupted.");
});

test("a process that this machine kills shows as its container's exit", async () => {
  const taskArn = await scene.run(await scene.register([scene.shell("main", untilStopped(0))]));
  await scene.running(taskArn);
  const pid = scene.aws.ecs.task(taskArn).pids.get("main");
  assert.ok(pid !== undefined && pid > 0);
  process.kill(pid, "SIGKILL");
  assert.deepEqual(exitCodes(await scene.stopped(taskArn)), { main: 137 });
});

test("a container gets its role's credentials at the usual address", async () => {
  const script = "wget -q -O - http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
  const taskArn = await scene.run(
    await scene.register([scene.shell("main", script)], { taskRoleArn: scene.aws.account.taskRoleArn }),
  );
  assert.deepEqual(exitCodes(await scene.stopped(taskArn)), { main: 0 });
  const [credentials = ""] = scene.logged(taskArn, "main");
  const { AccessKeyId, RoleArn } = JSON.parse(credentials) as { AccessKeyId: string; RoleArn: string };
  assert.equal(RoleArn, scene.aws.account.taskRoleArn);
  assert.ok(scene.aws.iam.principalOf(AccessKeyId) !== undefined);
});

test("a secret opens another registry", async () => {
  await using closing = new AsyncDisposableStack();
  const closed = closing.use(await TestRegistry.start({ credentials: true }));
  await closed.push("busybox", "latest", await busyboxImage());
  const arn = scene.aws.services.secrets.create("registry", JSON.stringify(registryUser));
  const container = scene.shell("main", "exit 0", {
    image: `${closed.host}/busybox:latest`,
    repositoryCredentials: { credentialsParameter: arn },
  });
  const taskArn = await scene.run(await scene.register([container]));
  assert.equal((await scene.stopped(taskArn)).stopCode, "EssentialContainerExited");
  const { repositoryCredentials: _, ...without } = container;
  const refused = await scene.stopped(await scene.run(await scene.register([without])));
  assert.match(refused.stoppedReason ?? "", /^CannotPullContainerError: /);
});

test("a task finds Cloud Map's instances and the VPC's interfaces by their names", async () => {
  const { aws } = scene;
  await using closing = new AsyncDisposableStack();
  const client = closing.adopt(new ServiceDiscoveryClient(aws.clientConfig), (each) => each.destroy());
  const { Service } = await client.send(
    new CreateServiceCommand({
      Name: "web",
      NamespaceId: aws.account.namespace.id,
      DnsConfig: { DnsRecords: [{ Type: "A", TTL: 10 }] },
    }),
  );
  const Attributes = { AWS_INSTANCE_IPV4: "10.1.2.3" };
  await client.send(new RegisterInstanceCommand({ ServiceId: Service?.Id, InstanceId: "one", Attributes }));
  const look = (name: string): string => `nslookup -type=a ${name} | sed -n '/^Name/,$ s/^Address.* //p'`;
  const lines = await scene.output(
    `${look(`web.${aws.account.namespace.name}`)}; ${look("$(hostname)")}; hostname -i; nslookup nobody.example | grep -o NXDOMAIN`,
  );
  const [instance, own, address, ...rest] = lines;
  assert.equal(instance, "10.1.2.3");
  assert.equal(own, address);
  assert.ok(rest.includes("NXDOMAIN"), lines.join());
});
