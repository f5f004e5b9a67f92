"""An account of moto's whose Fargate tasks run: `account.py DIRECTORY`, in namespaces of its own (network, PIDs, mounts).

Prints one JSON object: the `ecs:` section of a configuration for it, and credentials. Ends with its standard input.
"""

import json
import subprocess
import sys
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from runner import Runner

REGION = "eu-west-1"
BRIDGE = "tasks"
NETWORK = "10.31.0.0/16"
ROUTER = "10.31.0.1"
AGENT_PORT = 9111
KEY = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
CREDENTIALS = {"accessKeyId": "test", "secretAccessKey": "test"}


def main():
    directory = Path(sys.argv[1])
    for command in (
        ["link", "set", "lo", "up"],
        ["link", "add", BRIDGE, "type", "bridge"],
        ["address", "add", f"{ROUTER}/16", "dev", BRIDGE],
        ["link", "set", BRIDGE, "up"],
    ):
        subprocess.run(["ip", *command], check=True)
    registry = start_registry(directory / "registry")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    runner = Runner(directory, REGION, BRIDGE, ROUTER)
    runner.install()
    print(json.dumps({"ecs": account(endpoint, registry), "credentials": CREDENTIALS}), flush=True)
    sys.stdin.read()
    runner.end()


def start_registry(directory):
    """Debian's docker-registry, which keeps what moto's ECR only knows the names of."""
    directory.mkdir()
    config = directory / "config.yml"
    address = "127.0.0.1:5000"
    config.write_text(
        json.dumps(
            {
                "version": "0.1",
                "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
                "http": {"addr": address},
            }
        )
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "listening on" in line:
            break
    else:
        raise SystemExit("docker-registry does not listen")
    # Its pipe would fill.
    subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    return address


def account(endpoint, registry):
    """What a user makes before sockerless runs, made by AWS's own Python SDK."""

    def client(service):
        return boto3.client(service, region_name=REGION, endpoint_url=endpoint, **KEY)

    ec2, ecs, efs, iam = client("ec2"), client("ecs"), client("efs"), client("iam")
    vpc = ec2.create_vpc(CidrBlock=NETWORK)["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=NETWORK)["Subnet"]["SubnetId"]
    tasks = ec2.create_security_group(GroupName="sockerless", Description="tasks", VpcId=vpc)["GroupId"]
    port = {"IpProtocol": "tcp", "FromPort": AGENT_PORT, "ToPort": AGENT_PORT}
    ec2.authorize_security_group_ingress(
        GroupId=tasks, IpPermissions=[{**port, "IpRanges": [{"CidrIp": f"{ROUTER}/32"}]}]
    )
    ecs.create_cluster(clusterName="sockerless", capacityProviders=["FARGATE", "FARGATE_SPOT"])
    volumes = efs.create_file_system(CreationToken="sockerless")["FileSystemId"]
    efs.create_mount_target(FileSystemId=volumes, SubnetId=subnet, SecurityGroups=[tasks])
    client("logs").create_log_group(logGroupName="/sockerless/containers")
    client("ecr").create_repository(repositoryName="sockerless")
    names = client("servicediscovery")
    names.create_private_dns_namespace(Name="sockerless.internal", Vpc=vpc)
    namespace = names.list_namespaces()["Namespaces"][0]["Id"]
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    role = iam.create_role(RoleName="sockerless-execution", AssumeRolePolicyDocument=json.dumps(trust))
    return {
        "region": REGION,
        "endpoint": endpoint,
        "cluster": "sockerless",
        "subnets": [subnet],
        "security_groups": [tasks],
        "execution_role_arn": role["Role"]["Arn"],
        "efs_filesystem_id": volumes,
        "log_group": "/sockerless/containers",
        "cloud_map_namespace_id": namespace,
        "ecr_repository": f"{registry}/sockerless",
        "agent_ingress": [f"{ROUTER}/32"],
    }


main()
