//! Runs actions, and tells of them.

use std::sync::Arc;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::longrunning as long;
use bazel_remote_apis::google::protobuf::Empty;
use bazel_remote_apis::google::rpc;
use long::operations_server::Operations;
use reapi::ExecuteResponse;
use reapi::execution_server::Execution;
use tonic::{Request, Response, Status};

use super::blobs::Asked;
use super::operation::Operation;
use super::request::Ordered;
use super::{Answered, ClusterNode, Messages, Node, blocking, check};

#[tonic::async_trait]
impl Execution for ClusterNode {
    type ExecuteStream = Messages<long::Operation>;
    type WaitExecutionStream = Messages<long::Operation>;

    async fn execute(
        &self,
        request: Request<reapi::ExecuteRequest>,
    ) -> Answered<Self::ExecuteStream> {
        let request = request.into_inner();
        check(&request.instance_name, request.digest_function)?;
        let asked = Asked::of(request.action_digest.as_ref())?;
        let node = self.0.clone();
        let ordered = blocking(move || node.ordered(asked)).await?;
        let operation = self.0.operations.add(asked.message(), &self.0.name)?;
        // Somebody listens from the beginning.
        let stream = operation.clone().stream();
        _ = tokio::spawn(self.0.clone().carry_out(operation, ordered));
        Ok(Response::new(stream))
    }

    async fn wait_execution(
        &self,
        request: Request<reapi::WaitExecutionRequest>,
    ) -> Answered<Self::WaitExecutionStream> {
        let operation = self.0.operations.find(&request.into_inner().name)?;
        Ok(Response::new(operation.stream()))
    }
}

impl Node {
    /// Runs an order when there is a place for it, and says what came of it.
    async fn carry_out(self: Arc<Self>, operation: Arc<Operation>, ordered: Ordered) {
        let slots = self.operations.slots.clone();
        let place = tokio::select! {
            place = slots.acquire_owned() => place.ok(),
            () = operation.given_up() => None,
        };
        if place.is_none() {
            return operation.end(failure(&Status::cancelled("it was cancelled")));
        }
        operation.runs();
        let timeout = ordered.timeout;
        let (node, running) = (self.clone(), operation.clone());
        let work = blocking(move || node.work(&ordered.order, &running));
        let mut work = std::pin::pin!(work);
        let (result, stopped) = tokio::select! {
            result = work.as_mut() => (result, None),
            () = operation.given_up() => {
                operation.cancel.cancel();
                (work.await, Some(Status::cancelled("it was cancelled")))
            }
            () = after(timeout) => {
                operation.cancel.cancel();
                (work.await, Some(Status::deadline_exceeded("it took too long")))
            }
        };
        drop(place);
        operation.end(match (result, stopped) {
            (_, Some(stopped)) => failure(&stopped),
            (Err(status), None) => failure(&status),
            (Ok(result), None) => ExecuteResponse {
                result: Some(result),
                ..ExecuteResponse::default()
            },
        });
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn failure(status: &Status) -> ExecuteResponse {
    ExecuteResponse {
        status: Some(rpc::Status {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Vec::new(),
        }),
        ..ExecuteResponse::default()
    }
}

#[tonic::async_trait]
impl Operations for ClusterNode {
    async fn list_operations(
        &self,
        _: Request<long::ListOperationsRequest>,
    ) -> Answered<long::ListOperationsResponse> {
        // Names are what lets somebody stop an action.
        Err(Status::unimplemented("operations are not listed"))
    }

    async fn get_operation(
        &self,
        request: Request<long::GetOperationRequest>,
    ) -> Answered<long::Operation> {
        let operation = self.0.operations.find(&request.into_inner().name)?;
        Ok(Response::new(operation.now()))
    }

    async fn delete_operation(&self, _: Request<long::DeleteOperationRequest>) -> Answered<Empty> {
        Err(Status::unimplemented(
            "operations are forgotten by themselves",
        ))
    }

    async fn cancel_operation(
        &self,
        request: Request<long::CancelOperationRequest>,
    ) -> Answered<Empty> {
        let operation = self.0.operations.find(&request.into_inner().name)?;
        operation.cancel.cancel();
        Ok(Response::new(Empty {}))
    }

    async fn wait_operation(
        &self,
        _: Request<long::WaitOperationRequest>,
    ) -> Answered<long::Operation> {
        Err(Status::unimplemented("use WaitExecution"))
    }
}
