from collections.abc import Awaitable
from typing import type_check_only

import grpc
import grpc.aio

from draganything.v1 import draganything_pb2 as pb

class DragAnythingStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    Generate: grpc.UnaryUnaryMultiCallable[pb.GenerateRequest, pb.Job]
    GetJob: grpc.UnaryUnaryMultiCallable[pb.GetJobRequest, pb.Job]
    ListJobs: grpc.UnaryUnaryMultiCallable[pb.ListJobsRequest, pb.ListJobsResponse]
    CancelJob: grpc.UnaryUnaryMultiCallable[pb.CancelJobRequest, pb.Job]
    DeleteJob: grpc.UnaryUnaryMultiCallable[pb.DeleteJobRequest, pb.DeleteJobResponse]
    WatchJob: grpc.UnaryStreamMultiCallable[pb.WatchJobRequest, pb.Job]
    CreateBatch: grpc.UnaryUnaryMultiCallable[pb.CreateBatchRequest, pb.Batch]
    GetBatch: grpc.UnaryUnaryMultiCallable[pb.GetBatchRequest, pb.Batch]
    CancelBatch: grpc.UnaryUnaryMultiCallable[pb.CancelBatchRequest, pb.Batch]
    Preview: grpc.UnaryUnaryMultiCallable[pb.GenerateRequest, pb.PreviewResponse]
    Segment: grpc.UnaryUnaryMultiCallable[pb.SegmentRequest, pb.SegmentResponse]
    ListModels: grpc.UnaryUnaryMultiCallable[pb.ListModelsRequest, pb.ListModelsResponse]

@type_check_only
class DragAnythingAsyncStub:
    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None: ...
    Generate: grpc.aio.UnaryUnaryMultiCallable[pb.GenerateRequest, pb.Job]
    GetJob: grpc.aio.UnaryUnaryMultiCallable[pb.GetJobRequest, pb.Job]
    ListJobs: grpc.aio.UnaryUnaryMultiCallable[pb.ListJobsRequest, pb.ListJobsResponse]
    CancelJob: grpc.aio.UnaryUnaryMultiCallable[pb.CancelJobRequest, pb.Job]
    DeleteJob: grpc.aio.UnaryUnaryMultiCallable[pb.DeleteJobRequest, pb.DeleteJobResponse]
    WatchJob: grpc.aio.UnaryStreamMultiCallable[pb.WatchJobRequest, pb.Job]
    CreateBatch: grpc.aio.UnaryUnaryMultiCallable[pb.CreateBatchRequest, pb.Batch]
    GetBatch: grpc.aio.UnaryUnaryMultiCallable[pb.GetBatchRequest, pb.Batch]
    CancelBatch: grpc.aio.UnaryUnaryMultiCallable[pb.CancelBatchRequest, pb.Batch]
    Preview: grpc.aio.UnaryUnaryMultiCallable[pb.GenerateRequest, pb.PreviewResponse]
    Segment: grpc.aio.UnaryUnaryMultiCallable[pb.SegmentRequest, pb.SegmentResponse]
    ListModels: grpc.aio.UnaryUnaryMultiCallable[pb.ListModelsRequest, pb.ListModelsResponse]

class DragAnythingServicer:
    def Generate(self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[pb.GenerateRequest, pb.Job]) -> Awaitable[pb.Job]: ...
    def GetJob(self, request: pb.GetJobRequest, context: grpc.aio.ServicerContext[pb.GetJobRequest, pb.Job]) -> Awaitable[pb.Job]: ...
    def ListJobs(self, request: pb.ListJobsRequest, context: grpc.aio.ServicerContext[pb.ListJobsRequest, pb.ListJobsResponse]) -> Awaitable[pb.ListJobsResponse]: ...
    def CancelJob(self, request: pb.CancelJobRequest, context: grpc.aio.ServicerContext[pb.CancelJobRequest, pb.Job]) -> Awaitable[pb.Job]: ...
    def DeleteJob(self, request: pb.DeleteJobRequest, context: grpc.aio.ServicerContext[pb.DeleteJobRequest, pb.DeleteJobResponse]) -> Awaitable[pb.DeleteJobResponse]: ...
    def WatchJob(self, request: pb.WatchJobRequest, context: grpc.aio.ServicerContext[pb.WatchJobRequest, pb.Job]) -> Awaitable[None]: ...
    def CreateBatch(self, request: pb.CreateBatchRequest, context: grpc.aio.ServicerContext[pb.CreateBatchRequest, pb.Batch]) -> Awaitable[pb.Batch]: ...
    def GetBatch(self, request: pb.GetBatchRequest, context: grpc.aio.ServicerContext[pb.GetBatchRequest, pb.Batch]) -> Awaitable[pb.Batch]: ...
    def CancelBatch(self, request: pb.CancelBatchRequest, context: grpc.aio.ServicerContext[pb.CancelBatchRequest, pb.Batch]) -> Awaitable[pb.Batch]: ...
    def Preview(self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[pb.GenerateRequest, pb.PreviewResponse]) -> Awaitable[pb.PreviewResponse]: ...
    def Segment(self, request: pb.SegmentRequest, context: grpc.aio.ServicerContext[pb.SegmentRequest, pb.SegmentResponse]) -> Awaitable[pb.SegmentResponse]: ...
    def ListModels(self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse]) -> Awaitable[pb.ListModelsResponse]: ...

def add_DragAnythingServicer_to_server(servicer: DragAnythingServicer, server: grpc.Server | grpc.aio.Server) -> None: ...
