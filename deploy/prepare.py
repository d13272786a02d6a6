"""Before the first start and after an upgrade: the bucket of the store exists, the database has the schema of this Dagster.

Idempotent. Usage: ``prepare.py BUCKET`` with DAGSTER_HOME and the AWS_* variables set.
"""

from __future__ import annotations

import sys

import botocore.session
from botocore.exceptions import ClientError
from dagster import DagsterInstance


def create_bucket(bucket: str) -> bool:
    """Create the bucket unless it is there; whether it was created."""
    client = botocore.session.get_session().create_client("s3")
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        client.create_bucket(Bucket=bucket)
        return True
    return False


def create_schema() -> None:
    """Create the tables of the instance of DAGSTER_HOME, or bring them to the newest revision."""
    with DagsterInstance.get() as instance:
        instance.upgrade(lambda message: print(f"prepare: {message}"))


if __name__ == "__main__":
    print(f"prepare: bucket {sys.argv[1]}: {'created' if create_bucket(sys.argv[1]) else 'there already'}")
    create_schema()
