"""Acting: a model that calls tools and operates screens, and small worlds to try it in."""

from clearsight.agent.agent import Agent
from clearsight.agent.chat import Answer, Chat, ChatError, OpenAIChat, Said, Tokens
from clearsight.agent.events import Answered, Event, Finished, Returned
from clearsight.agent.limits import AgentLimits
from clearsight.agent.mcp import McpServer
from clearsight.agent.results import Result
from clearsight.agent.tools import FunctionTool, ToolError
from clearsight.agent.trajectory import RecordedChat, Trajectory, TrajectoryWriter, read_trajectory, training_sample

__all__ = [
    "Agent",
    "AgentLimits",
    "Answer",
    "Answered",
    "Chat",
    "ChatError",
    "Event",
    "Finished",
    "FunctionTool",
    "McpServer",
    "OpenAIChat",
    "RecordedChat",
    "Result",
    "Returned",
    "Said",
    "Tokens",
    "ToolError",
    "Trajectory",
    "TrajectoryWriter",
    "read_trajectory",
    "training_sample",
]
